import Store

/// What a CA offers and where (RFC 8555 section 7.1.1). May be kept for hours; nothing else may be assumed about a CA's
/// URLs.
package struct ACMEDirectory: Equatable, Sendable {
    package let newNonce: ACMEURL
    package let newAccount: ACMEURL
    package let newOrder: ACMEURL
    /// RFC 9773; nil: the CA says nothing about renewal.
    package let renewalInfo: ACMEURL?

    /// Where the terms of service are; only to be shown.
    package let termsOfService: String?
    /// Accounts need an external account binding.
    package let requiresExternalAccount: Bool
    /// Names of certificate profiles with a description each.
    package let profiles: [String: String]

    /// - Parameter url: where it was got from.
    package init(_ bytes: [UInt8], from url: ACMEURL) throws(ACMEMessageError) {
        let reader = try DocumentReader(bytes, "directory")
        newNonce = try reader.url("newNonce", from: url)
        newAccount = try reader.url("newAccount", from: url)
        newOrder = try reader.url("newOrder", from: url)
        renewalInfo = try reader.optionalURL("renewalInfo", from: url)
        let meta = try reader.object("meta")
        termsOfService = try meta?.shown("termsOfService")
        requiresExternalAccount = try meta?.bool("externalAccountRequired") ?? false
        profiles = try meta?.object("profiles").map(Self.profiles) ?? [:]
    }

    private static func profiles(_ reader: DocumentReader) throws(ACMEMessageError) -> [String: String] {
        guard reader.fields.count <= ACMELimits.profiles else {
            throw ACMEMessageError(reader.place, "has \(reader.fields.count) profiles; \(ACMELimits.profiles) may be")
        }
        var profiles: [String: String] = [:]
        for name in reader.fields.keys { profiles[name] = try reader.shown(name) ?? "" }
        return profiles
    }
}
