import Crypto
package import FoundationEssentials
import SwiftASN1
import X509

/// The root of the development CA: made once for a data folder, kept for ten years, trusted by nobody but those who
/// copy it.
///
/// `root-with-key.pem` decides: it is made by link(2), so of any number of processes that start together exactly one
/// makes the root and all the others read it. `root.pem` is the certificate alone, to be handed to browsers and agents.
package struct DevelopmentRoot: Sendable {
    static let lifetime: TimeInterval = 3_650 * 86_400
    /// Clocks of other machines may be behind ours.
    static let backdating: TimeInterval = 86_400
    private static let secretName = "root-with-key.pem"
    private static let publicName = "root.pem"

    /// The file to hand to clients: the certificate without the key.
    package let path: String
    /// What is in that file.
    package let certificatePEM: [UInt8]
    /// SHA-256 of the certificate's DER, 64 hexadecimal digits in lower case.
    package let fingerprint: String

    let certificate: Certificate
    let document: PEMDocument
    let key: Certificate.PrivateKey

    /// The form in which agents pin it.
    package var pin: String { "sha256:\(fingerprint)" }

    /// Reads the root, or makes it when there is none. A root that is there but cannot be used is an error: it is never
    /// replaced silently, because clients trust it.
    package static func loadOrCreate(directory: String, now: Date = Date()) throws(CertificatesError) -> DevelopmentRoot
    {
        do {
            let folder = try PrivateFolder.make(path: directory)
            let bytes = try secret(in: folder, now: now)
            let root = try DevelopmentRoot(bytes, directory: directory)
            if try folder.readIfPresent(publicName, limit: CertificateFiles.sizeLimit) != root.certificatePEM {
                try folder.publish(publicName, root.certificatePEM)
            }
            return root
        } catch {
            throw CertificatesError(wrapping: error)
        }
    }

    /// What is in the deciding file, which is made when it is missing.
    private static func secret(in folder: PrivateFolder, now: Date) throws -> [UInt8] {
        let limit = CertificateFiles.sizeLimit
        if let present = try folder.readIfPresent(secretName, limit: limit) { return present }
        let made = try issue(now: now, path: "\(folder.path)/\(secretName)")
        // The loser of the race reads what the winner has made.
        return try folder.create(secretName, made) ? made : folder.read(secretName, limit: limit)
    }

    private init(_ bytes: [UInt8], directory: String) throws(CertificatesError) {
        let secret = "\(directory)/\(Self.secretName)"
        let loaded: ServerCertificate
        do {
            loaded = try ServerCertificate(chain: bytes, key: bytes, chainPath: secret, keyPath: secret)
            document = try PEMDocument(pemString: String(decoding: loaded.chainPEM, as: UTF8.self))
            key = try Certificate.PrivateKey(pemEncoded: String(decoding: loaded.keyPEM, as: UTF8.self))
        } catch {
            let reason = (error as? CertificatesError)?.reason ?? "\(error)"
            let remedy = "restore the file from a backup, or remove the folder \(directory) to get a new root"
            throw CertificatesError(.malformed, secret, "the development root cannot be used: \(reason); \(remedy)")
        }
        path = "\(directory)/\(Self.publicName)"
        certificate = loaded.leaf
        certificatePEM = loaded.chainPEM
        fingerprint = loaded.leafSHA256.hexadecimal
    }

    /// A new key and its certificate, in one file.
    private static func issue(now: Date, path: String) throws(CertificatesError) -> [UInt8] {
        do {
            let key = Certificate.PrivateKey(P256.Signing.PrivateKey())
            // A part that differs from root to root: trust stores find certificates by this name.
            let mark = SerialNumbers.random().prefix(4).hexadecimal
            let name = try DistinguishedName {
                OrganizationName("HopGate")
                CommonName("HopGate development CA \(mark)")
            }
            let certificate = try Certificate(
                version: .v3,
                serialNumber: Certificate.SerialNumber(bytes: SerialNumbers.random()),
                publicKey: key.publicKey,
                notValidBefore: now - backdating,
                notValidAfter: now + lifetime,
                issuer: name,
                subject: name,
                signatureAlgorithm: .ecdsaWithSHA256,
                extensions: Certificate.Extensions {
                    Critical(BasicConstraints.isCertificateAuthority(maxPathLength: 0))
                    Critical(KeyUsage(keyCertSign: true, cRLSign: true))
                    SubjectKeyIdentifier(hash: key.publicKey)
                },
                issuerPrivateKey: key
            )
            let text = try certificate.serializeAsPEM().pemString + "\n" + key.serializeAsPEM().pemString + "\n"
            return Array(text.utf8)
        } catch {
            throw CertificatesError(.issuance, path, "the development root could not be made: \(error)")
        }
    }
}

enum SerialNumbers {
    /// 16 random bytes, positive and not zero (RFC 5280 section 4.1.2.2).
    static func random() -> [UInt8] {
        var generator = SystemRandomNumberGenerator()
        var bytes = (0..<16).map { _ in UInt8.random(in: .min ... .max, using: &generator) }
        bytes[0] = bytes[0] & 0x7F | 0x40
        return bytes
    }
}

extension Sequence<UInt8> {
    /// Two lower-case digits a byte.
    package var hexadecimal: String {
        let digits = Array("0123456789abcdef".utf8)
        return String(decoding: flatMap { [digits[Int($0 >> 4)], digits[Int($0 & 15)]] }, as: UTF8.self)
    }
}
