package import Crypto
package import Formats

/// The key of an account at a CA: P-256, signing as ES256 (RFC 7518 section 3.4). Whoever has it has the account.
package struct AccountKey: Sendable, Equatable {
    private let key: P256.Signing.PrivateKey

    /// A new one.
    package init() {
        key = P256.Signing.PrivateKey()
    }

    /// Nil if the text is no PEM of a P-256 key.
    package init?(pem: String) {
        guard let key = try? P256.Signing.PrivateKey(pemRepresentation: pem) else { return nil }
        self.key = key
    }

    /// The 32 bytes of the private number; nil if they are none.
    package init?(raw: [UInt8]) {
        guard let key = try? P256.Signing.PrivateKey(rawRepresentation: raw) else { return nil }
        self.key = key
    }

    /// PKCS #8, as a PEM block with a line feed at its end.
    package var pem: String { key.pemRepresentation + "\n" }
    package var raw: [UInt8] { Array(key.rawRepresentation) }
    package var publicKey: P256.Signing.PublicKey { key.publicKey }

    package static func == (left: AccountKey, right: AccountKey) -> Bool { left.raw == right.raw }

    /// The public key as a JSON Web Key (RFC 7518 section 6.2.1).
    package var jwk: [String: JSONValue] {
        let point = Array(key.publicKey.rawRepresentation)
        return [
            "kty": .string("EC"), "crv": .string("P-256"),
            "x": .string(Base64URL.encode(point[..<32])), "y": .string(Base64URL.encode(point[32...])),
        ]
    }

    /// It names the account's key in public.
    package var thumbprint: String { Self.thumbprint(jwk) }

    /// RFC 7638: the required members in the order of their names and without blanks, which is how objects are written
    /// here anyway.
    ///
    /// - Parameter key: the required members and no other.
    package static func thumbprint(_ key: [String: JSONValue]) -> String {
        Base64URL.encode(Array(SHA256.hash(data: key.json)))
    }

    /// What proves that the holder of this key answers a challenge (RFC 8555 section 8.1).
    package func keyAuthorization(_ token: String) -> String { "\(token).\(thumbprint)" }

    /// r and s, 32 bytes each: the form of JOSE (RFC 7518 section 3.4).
    package func sign(_ bytes: [UInt8]) -> [UInt8] {
        do {
            return Array(try key.signature(for: bytes).rawRepresentation)
        } catch {
            preconditionFailure("a P-256 key signs everything: \(error)")
        }
    }
}

extension AccountKey: CustomStringConvertible {
    /// Its thumbprint; the key never gets into a log.
    package var description: String { "account key \(thumbprint)" }
}
