/// Why a CA refused something (RFC 7807; RFC 8555 sections 6.7 and 6.7.1).
package struct ACMEProblem: Equatable, Sendable {
    /// The part of an ACME type behind `urn:ietf:params:acme:error:`; nil for types of others.
    package var errorName: String? {
        type.hasPrefix(Self.prefix) ? String(type.dropFirst(Self.prefix.count)) : nil
    }

    package let type: String
    /// Fit to be shown.
    package let detail: String
    /// Where a person finds more; only to be shown.
    package let instance: String?
    package let identifier: ACMEIdentifier?
    /// The same for single identifiers. They have none of their own.
    package let subproblems: [ACMEProblem]

    static let prefix = "urn:ietf:params:acme:error:"

    package init(
        type: String,
        detail: String,
        instance: String? = nil,
        identifier: ACMEIdentifier? = nil,
        subproblems: [ACMEProblem] = []
    ) {
        self.type = type
        self.detail = detail
        self.instance = instance
        self.identifier = identifier
        self.subproblems = subproblems
    }

    package init(_ bytes: [UInt8]) throws(ACMEMessageError) {
        try self.init(DocumentReader(bytes, "problem"))
    }

    init(_ reader: DocumentReader) throws(ACMEMessageError) {
        var subproblems: [ACMEProblem] = []
        for inner in try reader.objects("subproblems", limit: ACMELimits.subproblems) {
            subproblems.append(try ACMEProblem(one: inner, []))
        }
        try self.init(one: reader, subproblems)
    }

    private init(one reader: DocumentReader, _ subproblems: [ACMEProblem]) throws(ACMEMessageError) {
        // RFC 7807 section 3.1: no type is this one.
        type = try reader.optionalString("type").map { ForeignText.shown($0, limit: 200) } ?? "about:blank"
        let title = try reader.shown("title")
        detail = try reader.shown("detail") ?? title ?? "no reason is given"
        instance = try reader.shown("instance")
        identifier = try reader.object("identifier").map { reader throws(ACMEMessageError) in
            try ACMEIdentifier(reader)
        }
        self.subproblems = subproblems
    }
}
