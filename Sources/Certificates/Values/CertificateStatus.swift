package import Formats
package import FoundationEssentials
package import Store

/// Where a certificate comes from; of two for one name the stronger is served, and they stand here in that order.
package enum CertificateSource: String, Sendable {
    /// Files that the configuration names.
    case files
    /// The store, by import or by ACME.
    case store
    /// The development CA, for names that nothing else covers.
    case development
}

/// One certificate as operators are told of it. Never holds a private key.
package struct CertificateStatus: Sendable {
    package let source: CertificateSource
    /// The certificate's file, or its key in the store.
    package let place: String
    /// In the store only.
    package var generation: Generation?
    /// Who put it into the store: `import`, or what its description says.
    package var origin: String?
    /// The directory URL of the CA that issued it by ACME.
    package var authority: String?
    /// What is served; nil if there never was a good one. For the development CA its root.
    package var certificate: ServerCertificate?
    /// What is wrong with the newest; the certificate is the last good one then.
    package var problem: CertificatesError?

    package init(
        source: CertificateSource,
        place: String,
        generation: Generation? = nil,
        origin: String? = nil,
        authority: String? = nil,
        certificate: ServerCertificate? = nil,
        problem: CertificatesError? = nil
    ) {
        self.source = source
        self.place = place
        self.generation = generation
        self.origin = origin
        self.authority = authority
        self.certificate = certificate
        self.problem = problem
    }

    /// A few words for people. Dates count here only: what is out of date is served all the same.
    package func state(now: Date) -> String {
        if let problem {
            let words =
                switch problem.code {
                case .file, .store: "cannot be read"
                case .malformed, .chainOrder: "is damaged"
                case .unsupported: "cannot be served"
                case .keyMismatch: "key does not fit"
                case .incomplete: "is incomplete"
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

    /// The same for programs.
    package func document(now: Date) -> [String: JSONValue] {
        var fields: [String: JSONValue] = [
            "source": .string(source.rawValue),
            "place": .string(place),
            "state": .string(state(now: now)),
            "names": .array([]),
        ]
        if let generation { fields["generation"] = .string("\(generation)") }
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

    /// Seconds since 1970 as people read them, in UTC.
    package static func time(_ seconds: Int64) -> String {
        Date(timeIntervalSince1970: TimeInterval(seconds)).formatted(.iso8601)
    }
}
