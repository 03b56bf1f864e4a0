package import ACME

/// Every certificate that is served at this moment, found by the name in the client's hello (SNI). Immutable.
package struct CertificateSnapshot: Sendable {
    /// Served when no name fits, and to clients that send none.
    package let fallback: ServerCertificate
    /// All certificates in the order in which they were given, the fallback first.
    package let certificates: [ServerCertificate]

    private let exact: [String: ServerCertificate]
    /// By what stands behind `*.`.
    private let wildcard: [String: ServerCertificate]

    /// - Parameter certificates: at least one, the strongest source first; the first is the fallback. Of two for one
    ///   name the earlier is served.
    package init(_ certificates: [ServerCertificate]) {
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
        self.certificates = certificates
        self.exact = exact
        self.wildcard = wildcard
    }

    /// Exact name, else a wildcard for its first label (RFC 9525 §6.3: one label, never none), else the
    /// fallback.
    package func select(serverName: String?) -> ServerCertificate {
        guard let serverName, !serverName.isEmpty else { return fallback }
        return certificate(covering: serverName) ?? fallback
    }

    /// The same without the fallback.
    private func certificate(covering serverName: String) -> ServerCertificate? {
        var name = serverName.lowercased()
        if name.hasSuffix(".") { name.removeLast() }
        if let certificate = exact[name] { return certificate }
        guard let dot = name.firstIndex(of: "."), dot != name.startIndex else { return nil }
        return wildcard[String(name[name.index(after: dot)...])]
    }

    /// The certificate that whoever asks for this name gets and finds it in; nil if there is none. An address is never
    /// in a hello, so it is the fallback that has to hold it.
    package func certificate(for name: CertificateName) -> ServerCertificate? {
        switch name {
        case .address: fallback.names.contains(name) ? fallback : nil
        case .dns(let text) where text.hasPrefix("*."): wildcard[String(text.dropFirst(2))]
        case .dns(let text): certificate(covering: text)
        }
    }
}
