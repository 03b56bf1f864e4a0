package import ACME

/// All certificates that are served at one time, found by the server name in the client's hello (SNI). Immutable.
package struct CertificateSnapshot: Sendable {
    /// The certificate for clients that send no name or one that no certificate covers.
    package let fallback: ServerCertificate
    /// The certificate for agents that send no name, since they connect to an address: the development certificate if
    /// there is one, so that a pin of the development CA stays valid when other certificates are added.
    package let forAddresses: ServerCertificate
    /// All certificates in the given order, the fallback first.
    package let certificates: [ServerCertificate]

    private let exact: [String: ServerCertificate]
    /// The wildcard certificates by the part after `*.`.
    private let wildcard: [String: ServerCertificate]

    /// - Parameters:
    ///   - certificates: The certificates in order of precedence, at least one if there is no development certificate.
    ///     The first is the fallback. Of two for one name the first is served.
    ///   - development: The development certificate, which comes last.
    package init(_ certificates: [ServerCertificate], development: ServerCertificate? = nil) {
        let certificates = certificates + [development].compactMap(\.self)
        precondition(!certificates.isEmpty, "a snapshot holds at least one certificate")
        var exact: [String: ServerCertificate] = [:]
        var wildcard: [String: ServerCertificate] = [:]
        for certificate in certificates {
            for case .dns(let name) in certificate.names {
                if name.hasPrefix("*.") {
                    let parent = String(name.dropFirst(2))
                    if wildcard[parent] == nil { wildcard[parent] = certificate }
                } else if exact[name] == nil {
                    exact[name] = certificate
                }
            }
        }
        self.fallback = certificates[0]
        self.forAddresses = development ?? certificates[0]
        self.certificates = certificates
        self.exact = exact
        self.wildcard = wildcard
    }

    /// The names that were added and removed since the other snapshot, and the first names of certificates that were
    /// replaced by others with the same names, sorted. Empty if only the order has changed.
    package func names(changedSince other: CertificateSnapshot) -> [String] {
        let (new, old) = (namesByFirst(notIn: other), other.namesByFirst(notIn: self))
        let changed = Set(new.keys).union(old.keys).flatMap { first -> [String] in
            let difference = Set(new[first] ?? []).symmetricDifference(old[first] ?? [])
            return difference.isEmpty ? [first] : Array(difference)
        }
        return Set(changed).sorted()
    }

    /// Returns the names of the certificates that the other snapshot has not, by their first name.
    private func namesByFirst(notIn other: CertificateSnapshot) -> [String: [String]] {
        let known = Dictionary(grouping: other.certificates, by: \.leafSHA256)
        let new = certificates.filter { certificate in
            known[certificate.leafSHA256]?.contains { $0.isSame(as: certificate) } != true
        }
        let names = new.map { ($0.names.first?.description ?? $0.origin, $0.names.map(\.description)) }
        return Dictionary(names) { $0 + $1 }
    }

    /// Returns the certificate for the exact name, else a wildcard for its first label (RFC 9525 §6.3: exactly one
    /// label), else the fallback.
    package func select(serverName: String?) -> ServerCertificate {
        guard let serverName, !serverName.isEmpty else { return fallback }
        return certificate(covering: serverName) ?? fallback
    }

    /// Returns the certificate for an agent, as ``select(serverName:)`` if it sends a name.
    package func selectForAgent(serverName: String?) -> ServerCertificate {
        guard let serverName, !serverName.isEmpty else { return forAddresses }
        return select(serverName: serverName)
    }

    /// Returns the certificate for the name, without the fallback.
    private func certificate(covering serverName: String) -> ServerCertificate? {
        var name = serverName.lowercased()
        if name.hasSuffix(".") { name.removeLast() }
        if let certificate = exact[name] { return certificate }
        guard let dot = name.firstIndex(of: "."), dot != name.startIndex else { return nil }
        return wildcard[String(name[name.index(after: dot)...])]
    }

    /// Returns the certificate that a browser that requests this name receives and finds the name in, or `nil` if there
    /// is none. An address is never in a hello, so only the fallback can contain it.
    package func certificate(for name: CertificateName) -> ServerCertificate? {
        switch name {
        case .address: fallback.names.contains(name) ? fallback : nil
        case .dns(let text) where text.hasPrefix("*."): wildcard[String(text.dropFirst(2))]
        case .dns(let text): certificate(covering: text)
        }
    }
}
