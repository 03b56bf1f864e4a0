package import ACME
package import Crypto
package import Formats
import FoundationEssentials
import SwiftASN1
package import X509

/// The root, two intermediates for one name and key, and what they sign.
package final class TestIssuer: Sendable {
    package static let shared = TestIssuer()

    private let key = P256.Signing.PrivateKey()
    private let name: DistinguishedName
    private let intermediate: Certificate
    private let other: Certificate

    private init() {
        do {
            let root = P256.Signing.PrivateKey()
            name = try DistinguishedName { CommonName("Test E1") }
            intermediate = try Self.sign(
                key.publicKey,
                name,
                by: root,
                try DistinguishedName { CommonName("Test Root") }
            )
            other = try Self.sign(key.publicKey, name, by: root, try DistinguishedName { CommonName("Other Root") })
        } catch {
            preconditionFailure("\(error)")
        }
    }

    private static func sign(
        _ key: P256.Signing.PublicKey,
        _ name: DistinguishedName,
        by issuer: P256.Signing.PrivateKey,
        _ issuerName: DistinguishedName
    ) throws -> Certificate {
        try Certificate(
            version: .v3,
            serialNumber: Certificate.SerialNumber(),
            publicKey: Certificate.PublicKey(key),
            notValidBefore: Date(timeIntervalSince1970: 1_700_000_000),
            notValidAfter: Date(timeIntervalSince1970: 2_700_000_000),
            issuer: issuerName,
            subject: name,
            signatureAlgorithm: .ecdsaWithSHA256,
            extensions: Certificate.Extensions { Critical(BasicConstraints.isCertificateAuthority(maxPathLength: 0)) },
            issuerPrivateKey: Certificate.PrivateKey(issuer)
        )
    }

    package static func request(_ der: [UInt8]) throws -> CertificateSigningRequest {
        try CertificateSigningRequest(derEncoded: der)
    }

    /// The names that a good request is for.
    package static func names(_ der: [UInt8]) throws -> [CertificateName] {
        let request = try request(der)
        guard request.publicKey.isValidSignature(request.signature, for: request) else { return [] }
        guard let extensions = try request.attributes.extensionRequest?.extensions,
            let names = try extensions.subjectAlternativeNames
        else { return [] }
        func name(_ text: String) throws -> CertificateName {
            guard let name = CertificateName(text) else { throw CertificateNameError() }
            return name
        }
        return try names.map { alternative in
            switch alternative {
            case .dnsName(let text): try name(text)
            case .ipAddress(let octets): try name(Self.address(Array(octets.bytes)))
            default: throw CertificateNameError()
            }
        }
    }

    private struct CertificateNameError: Error {}

    private static func address(_ bytes: [UInt8]) -> String {
        if bytes.count == 4 { return bytes.map { "\($0)" }.joined(separator: ".") }
        let groups = stride(from: 0, to: 16, by: 2).map { String(Int(bytes[$0]) << 8 | Int(bytes[$0 + 1]), radix: 16) }
        return groups.joined(separator: ":")
    }

    /// A chain for a request, or for another key or other names.
    package func issue(
        _ der: [UInt8],
        from start: UnixTime,
        lifetime: Int64,
        key: P256.Signing.PublicKey? = nil,
        names: [String]? = nil,
        withChain: Bool = true
    ) -> [UInt8] {
        do {
            let request = try Self.request(der)
            let requested = try request.attributes.extensionRequest!.extensions.subjectAlternativeNames!
            let alternatives = names.map { SubjectAlternativeNames($0.map { .dnsName($0) }) } ?? requested
            let leaf = try Certificate(
                version: .v3,
                serialNumber: Certificate.SerialNumber(),
                publicKey: key.map { Certificate.PublicKey($0) } ?? request.publicKey,
                notValidBefore: Date(timeIntervalSince1970: Double(start.seconds)),
                notValidAfter: Date(timeIntervalSince1970: Double(start.seconds + lifetime)),
                issuer: name,
                subject: DistinguishedName(),
                signatureAlgorithm: .ecdsaWithSHA256,
                extensions: Certificate.Extensions {
                    alternatives
                    AuthorityKeyIdentifier(keyIdentifier: [0x69, 0x88, 0x5b, 0x6b, 0x87, 0x46, 0x40, 0x41])
                },
                issuerPrivateKey: Certificate.PrivateKey(self.key)
            )
            let texts = [leaf] + (withChain ? [intermediate] : [])
            // An empty line between blocks, as CAs may send it.
            return Array(try texts.map { try $0.serializeAsPEM().pemString + "\n" }.joined(separator: "\n").utf8)
        } catch {
            preconditionFailure("\(error)")
        }
    }

    /// The same leaf under the other root.
    package func otherChain(_ chain: [UInt8]) -> [UInt8] {
        do {
            let leaf = try PEMDocument.parseMultiple(pemString: String(decoding: chain, as: UTF8.self))[0]
            return Array((leaf.pemString + "\n" + (try other.serializeAsPEM().pemString) + "\n").utf8)
        } catch {
            preconditionFailure("\(error)")
        }
    }
}
