import Files

/// The paths of a configured certificate: a chain and its private key, both PEM. They may be the same file.
package struct CertificateFiles: Hashable, Sendable {
    /// The largest file that is read, which is far above the size of any chain.
    static let sizeLimit = 1 << 20

    package var certificate: String
    package var key: String

    package init(certificate: String, key: String) {
        self.certificate = certificate
        self.key = key
    }

    /// The present content of both files, unparsed.
    struct Contents: Equatable {
        var chain: [UInt8]
        var key: [UInt8]
    }

    func read() throws(CertificatesError) -> Contents {
        do {
            let (chain, key) = try ConfiguredFile.readPair(certificate, key, limit: Self.sizeLimit)
            return Contents(chain: chain, key: key)
        } catch {
            throw CertificatesError(error)
        }
    }

    func parse(_ contents: Contents) throws(CertificatesError) -> ServerCertificate {
        try ServerCertificate(chain: contents.chain, key: contents.key, chainPath: certificate, keyPath: key)
    }

    /// Reads and checks both files.
    package func load() throws(CertificatesError) -> ServerCertificate {
        try parse(try read())
    }
}
