import Crypto
import CryptoExtras
import FoundationEssentials
import Glibc
import SwiftASN1
import X509

/// A certificate chain and the private key of its first certificate, in PEM.
package struct TestCertificate: Sendable {
    /// The kinds of a private key.
    package enum KeyKind: CaseIterable, Sendable {
        case p256
        case p384
        case p521
        case ed25519
        case rsa2048
        case rsa3072
        case rsa4096
    }

    /// The subject alternative names.
    package let names: [String]
    package var chain: String
    package var key: String
    /// The SHA-256 of the first certificate in DER.
    package let sha256: [UInt8]
    /// The SHA-256 of the first certificate's SubjectPublicKeyInfo in DER.
    package let publicKeySHA256: [UInt8]

    /// The chain as the bytes of a PEM file.
    package var chainBytes: [UInt8] { Array(chain.utf8) }
    /// The key as the bytes of a PEM file.
    package var keyBytes: [UInt8] { Array(key.utf8) }

    /// Creates a self-signed certificate.
    ///
    /// - Parameters:
    ///   - names: The subject alternative names, as of ``TestAuthority/issue(_:key:hours:sending:)``.
    ///   - hours: The validity in hours from now; negative for the past.
    package init(_ names: [String], hours: ClosedRange<Double> = -1...24) throws {
        let key = Certificate.PrivateKey(P256.Signing.PrivateKey())
        let name = try DistinguishedName { CommonName("test") }
        let extensions = try Certificate.Extensions { try Self.alternativeNames(names) }
        let certificate = try Certificate(
            subject: name,
            key: key.publicKey,
            issuer: name,
            issuerKey: key,
            hours: hours,
            extensions: extensions
        )
        try self.init(names, certificate, key: key, sending: [])
    }

    /// - Parameter certificates: The certificates that follow in the chain.
    init(
        _ names: [String],
        _ certificate: Certificate,
        key: Certificate.PrivateKey,
        sending certificates: [Certificate]
    ) throws {
        self.names = names
        chain = try ([certificate] + certificates).map { try $0.serializeAsPEM().pemString + "\n" }.joined()
        self.key = try key.serializeAsPEM().pemString + "\n"
        sha256 = Array(SHA256.hash(data: try certificate.serializeAsPEM().derBytes))
        publicKeySHA256 = Array(SHA256.hash(data: try certificate.publicKey.serializeAsPEM().derBytes))
    }

    static func alternativeNames(_ names: [String]) throws -> SubjectAlternativeNames {
        SubjectAlternativeNames(
            names.map { name in
                if name.hasPrefix("DNS:") { return .dnsName(String(name.dropFirst(4))) }
                if name.hasPrefix("URI:") { return .uniformResourceIdentifier(String(name.dropFirst(4))) }
                guard let address = address(name) else { return .dnsName(name) }
                return .ipAddress(ASN1OctetString(contentBytes: address[...]))
            }
        )
    }

    /// Returns the bytes of an IPv4 or IPv6 address, or `nil` if the text is none.
    private static func address(_ text: String) -> [UInt8]? {
        for (family, length) in [(AF_INET, 4), (AF_INET6, 16)] {
            var bytes = [UInt8](repeating: 0, count: length)
            if inet_pton(family, text, &bytes) == 1 { return bytes }
        }
        return nil
    }
}

extension Certificate {
    init(
        subject: DistinguishedName,
        key: PublicKey,
        issuer: DistinguishedName,
        issuerKey: PrivateKey,
        hours: ClosedRange<Double>,
        extensions: Extensions
    ) throws {
        let now = Date()
        try self.init(
            version: .v3,
            serialNumber: SerialNumber(),
            publicKey: key,
            notValidBefore: now + hours.lowerBound * 3_600,
            notValidAfter: now + hours.upperBound * 3_600,
            issuer: issuer,
            subject: subject,
            signatureAlgorithm: .ecdsaWithSHA256,
            extensions: extensions,
            issuerPrivateKey: issuerKey
        )
    }
}
