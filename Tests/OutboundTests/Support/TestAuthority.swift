import Crypto
import Foundation
import NIOSSL
import SwiftASN1
import X509

/// A certificate authority that exists as long as the test process, and server certificates that it issues.
struct TestAuthority {
    static let shared = TestAuthority("Throw-away root")
    /// An authority that issues none of the tested certificates.
    static let stranger = TestAuthority("Stranger root")

    private let key = P256.Signing.PrivateKey()
    private let name: DistinguishedName
    let root: [UInt8]

    init(_ commonName: String) {
        name = try! DistinguishedName { CommonName(commonName) }
        let signer = Certificate.PrivateKey(key)
        let certificate = try! Certificate(
            version: .v3,
            serialNumber: Certificate.SerialNumber(),
            publicKey: signer.publicKey,
            notValidBefore: Date() - 86_400,
            notValidAfter: Date() + 86_400,
            issuer: name,
            subject: name,
            signatureAlgorithm: .ecdsaWithSHA256,
            extensions: Certificate.Extensions {
                Critical(BasicConstraints.isCertificateAuthority(maxPathLength: nil))
                Critical(KeyUsage(keyCertSign: true, cRLSign: true))
            },
            issuerPrivateKey: signer
        )
        root = Array((try! certificate.serializeAsPEM().pemString + "\n").utf8)
    }

    /// Creates the TLS context of a server with a certificate of this authority.
    ///
    /// - Parameters:
    ///   - from: The start of the validity in hours from now; negative for the past.
    ///   - until: The end of the validity in hours from now.
    func server(
        _ names: [GeneralName] = [.dnsName("localhost"), .loopback],
        from: Double = -1,
        until: Double = 1,
        adjust: (inout TLSConfiguration) -> Void = { _ in }
    ) -> NIOSSLContext {
        let leafKey = P256.Signing.PrivateKey()
        let certificate = try! Certificate(
            version: .v3,
            serialNumber: Certificate.SerialNumber(),
            publicKey: Certificate.PrivateKey(leafKey).publicKey,
            notValidBefore: Date() + from * 3_600,
            notValidAfter: Date() + until * 3_600,
            issuer: name,
            subject: DistinguishedName { CommonName("server") },
            signatureAlgorithm: .ecdsaWithSHA256,
            extensions: Certificate.Extensions {
                Critical(BasicConstraints.notCertificateAuthority)
                SubjectAlternativeNames(names)
            },
            issuerPrivateKey: Certificate.PrivateKey(key)
        )
        var configuration = TLSConfiguration.makeServerConfiguration(
            certificateChain: [
                .certificate(
                    try! NIOSSLCertificate(bytes: Array(certificate.serializeAsPEM().pemString.utf8), format: .pem)
                )
            ],
            privateKey: .privateKey(
                try! NIOSSLPrivateKey(bytes: Array(leafKey.pemRepresentation.utf8), format: .pem)
            )
        )
        adjust(&configuration)
        return try! NIOSSLContext(configuration: configuration)
    }
}

extension GeneralName {
    static let loopback = GeneralName.ipAddress(ASN1OctetString(contentBytes: [127, 0, 0, 1]))
}
