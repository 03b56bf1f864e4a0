import Formats

/// A CA's directory: the URLs of its operations, and its metadata (RFC 8555 §7.1.1). It may be cached for hours. URLs
/// that it does not list must not be guessed.
package struct ACMEDirectory: Equatable, Sendable {
    package let newNonce: ACMEURL
    package let newAccount: ACMEURL
    package let newOrder: ACMEURL
    /// The base URL of renewal information (RFC 9773), or `nil` if the CA does not offer it.
    package let renewalInfo: ACMEURL?

    /// Whether new accounts need an external account binding.
    package let requiresExternalAccount: Bool
    /// The descriptions of the offered certificate profiles, by name.
    package let profiles: [String: String]

    /// Parses a response.
    ///
    /// - Parameter url: The URL that the directory was fetched from.
    package init(_ bytes: [UInt8], from url: ACMEURL) throws(ACMEMessageError) {
        let reader = try DocumentReader(bytes, "directory")
        newNonce = try reader.url("newNonce", from: url)
        newAccount = try reader.url("newAccount", from: url)
        newOrder = try reader.url("newOrder", from: url)
        renewalInfo = try reader.optionalURL("renewalInfo", from: url)
        let meta = try reader.object("meta")
        requiresExternalAccount = try meta?.bool("externalAccountRequired") ?? false
        profiles = try meta?.object("profiles").map(Self.profiles) ?? [:]
    }

    private static func profiles(_ reader: DocumentReader) throws(ACMEMessageError) -> [String: String] {
        guard reader.fields.count <= ACMELimits.profiles else {
            throw ACMEMessageError(
                reader.place,
                "has \(reader.fields.count) profiles; at most \(ACMELimits.profiles) are allowed"
            )
        }
        var profiles: [String: String] = [:]
        for name in reader.fields.keys { profiles[name] = try reader.displayText(name) ?? "" }
        return profiles
    }
}

/// An account resource (RFC 8555 §7.1.2).
package struct ACMEAccount: Equatable, Sendable {
    package enum Status: String, Sendable {
        case valid, deactivated, revoked
    }

    package let status: Status

    package init(_ bytes: [UInt8]) throws(ACMEMessageError) {
        status = try DocumentReader(bytes, "account").enumValue("status")
    }
}
