import Files

/// The paths of one certificate that the operator has: a chain and its private key, both PEM. They may be one file.
package struct CertificateFiles: Hashable, Sendable {
    /// No PEM file of ours is near this size.
    static let sizeLimit = 1 << 20

    package var certificate: String
    package var key: String

    package init(certificate: String, key: String) {
        self.certificate = certificate
        self.key = key
    }

    /// What is in both files now, unparsed.
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

    /// Both files, read and checked.
    package func load() throws(CertificatesError) -> ServerCertificate {
        try parse(try read())
    }
}
