/// An order resource (RFC 8555 §7.1.3).
package struct ACMEOrder: Equatable, Sendable {
    package enum Status: String, Sendable {
        case pending, ready, processing, valid, invalid
    }

    package let status: Status
    package let identifiers: [ACMEIdentifier]
    /// The URLs of the authorizations, without duplicates.
    package let authorizations: [ACMEURL]
    package let finalize: ACMEURL
    /// The URL of the certificate, which is set once the order is valid.
    package let certificate: ACMEURL?
    package let error: ACMEProblem?

    /// Parses a response.
    ///
    /// - Parameter origin: The directory URL of the CA.
    package init(_ bytes: [UInt8], from origin: ACMEURL) throws(ACMEMessageError) {
        let reader = try DocumentReader(bytes, "order")
        status = try reader.enumValue("status")
        var identifiers: [ACMEIdentifier] = []
        for inner in try reader.objects("identifiers", limit: ACMELimits.names) {
            identifiers.append(try ACMEIdentifier(inner))
        }
        self.identifiers = identifiers
        authorizations = try Self.authorizations(reader, from: origin)
        finalize = try reader.url("finalize", from: origin)
        certificate = try reader.optionalURL("certificate", from: origin)
        error = try reader.object("error").map { reader throws(ACMEMessageError) in try ACMEProblem(reader) }
        guard !identifiers.isEmpty else { throw reader.error("identifiers", "is missing") }
        guard status != .valid || certificate != nil else {
            throw reader.error("certificate", "is missing although the order is valid")
        }
        guard status != .pending || !authorizations.isEmpty else {
            throw reader.error("authorizations", "is missing although the order is pending")
        }
    }

    private static func authorizations(
        _ reader: DocumentReader,
        from origin: ACMEURL
    ) throws(ACMEMessageError) -> [ACMEURL] {
        let texts = try reader.strings("authorizations") ?? []
        guard texts.count <= ACMELimits.authorizations else {
            throw reader.error(
                "authorizations",
                "has \(texts.count) URLs; at most \(ACMELimits.authorizations) are allowed"
            )
        }
        var seen: Set<ACMEURL> = []
        var urls: [ACMEURL] = []
        for (index, text) in texts.enumerated() {
            let url = try DocumentReader.url(text, "\(reader.place).authorizations[\(index)]", from: origin)
            if seen.insert(url).inserted { urls.append(url) }
        }
        return urls
    }
}
