package import Formats
package import FoundationEssentials
import Store

/// The source of a certificate, in order of precedence: of two certificates for one name the first source's is served.
package enum CertificateSource: String, Sendable {
    /// Files that the configuration names.
    case files
    /// The store, by import or by ACME.
    case store
    /// The development CA, for names that no other source covers.
    case development
}

/// The displayed status of one certificate. It never holds a private key.
package struct CertificateStatus: Sendable {
    package let source: CertificateSource
    /// The path of the certificate file, or its key in the store.
    package let place: String
    /// The version, if the certificate is from the store.
    package var version: UInt64?
    /// The publisher of a stored certificate, such as `import`.
    package var origin: String?
    /// The directory URL of the CA that issued it by ACME.
    package var authority: String?
    /// The certificate that is served, or `nil` if there never was a good one. For the development CA it is the root.
    package var certificate: ServerCertificate?
    /// The problem of the newest certificate. ``certificate`` is the last good one then.
    package var problem: CertificatesError?

    package init(
        source: CertificateSource,
        place: String,
        version: UInt64? = nil,
        origin: String? = nil,
        authority: String? = nil,
        certificate: ServerCertificate? = nil,
        problem: CertificatesError? = nil
    ) {
        self.source = source
        self.place = place
        self.version = version
        self.origin = origin
        self.authority = authority
        self.certificate = certificate
        self.problem = problem
    }

    /// The state of a certificate that is to be ordered and does not exist yet.
    package static let notIssued = "is not issued yet"

    /// A description in a few words. Dates matter only here: an expired certificate is served nevertheless.
    package func state(now: Date) -> String {
        if let problem {
            let words =
                switch problem.code {
                case .file, .store: "cannot be read"
                case .malformed, .chainOrder: "is damaged"
                case .unsupported: "cannot be served"
                case .keyMismatch: "key does not fit"
                case .issuance: "cannot be issued"
                case .missing: "is missing"
                }
            return certificate == nil ? words : "the newest \(words); an older one is served"
        }
        guard let certificate else { return "is missing" }
        let seconds = Int64(now.timeIntervalSince1970)
        if seconds > certificate.notValidAfter { return "expired" }
        return seconds < certificate.notValidBefore ? "not valid yet" : "good"
    }

    /// The status as JSON fields.
    package func document(now: Date) -> [String: JSONValue] {
        var fields: [String: JSONValue] = [
            "source": .string(source.rawValue),
            "place": .string(place),
            "state": .string(state(now: now)),
            "names": .array([]),
        ]
        if let version { fields["version"] = .integer(Int64(clamping: version)) }
        if let origin { fields["origin"] = .string(origin) }
        if let authority { fields["ca"] = .string(authority) }
        if let problem { fields["problem"] = .string("\(problem)") }
        if let certificate {
            fields["names"] = .array(certificate.names.map { .string("\($0)") })
            fields["issuer"] = .string(certificate.issuer)
            fields["not_before"] = .string(Self.time(certificate.notValidBefore))
            fields["not_after"] = .string(Self.time(certificate.notValidAfter))
            fields["sha256"] = .string(Hex.string(certificate.leafSHA256))
        }
        return fields
    }

    /// Formats seconds since 1970 in ISO 8601, in UTC.
    package static func time(_ seconds: Int64) -> String {
        Date(timeIntervalSince1970: TimeInterval(seconds)).formatted(.iso8601)
    }
}
