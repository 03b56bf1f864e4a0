/// A problem document: the reason why a CA rejected a request (RFC 7807; RFC 8555 §6.7 and §6.7.1).
package struct ACMEProblem: Equatable, Sendable {
    /// The part of the type after `urn:ietf:params:acme:error:`, or `nil` if the type is not one of ACME's.
    package var errorName: String? {
        type.hasPrefix(Self.prefix) ? String(type.dropFirst(Self.prefix.count)) : nil
    }

    package let type: String
    /// The description, sanitised for display.
    package let detail: String
    /// The URL of further information for the operator, for display only.
    package let instance: String?
    package let identifier: ACMEIdentifier?
    /// The problems of single identifiers. They have no subproblems themselves.
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
        // A missing type means this one (RFC 7807 §3.1).
        type = try reader.optionalString("type").map { UntrustedText.sanitised($0, limit: 200) } ?? "about:blank"
        let title = try reader.displayText("title")
        detail = try reader.displayText("detail") ?? title ?? "no reason is given"
        instance = try reader.displayText("instance")
        identifier = try reader.object("identifier").map { reader throws(ACMEMessageError) in
            try ACMEIdentifier(reader)
        }
        self.subproblems = subproblems
    }
}
