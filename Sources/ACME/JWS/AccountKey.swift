package import Crypto
package import Formats

/// The private key of an ACME account: P-256, for ES256 signatures (RFC 7518 §3.4). Possession of the key is possession
/// of the account.
package struct AccountKey: Sendable, Equatable {
    private let key: P256.Signing.PrivateKey

    /// Creates a new random key.
    package init() {
        key = P256.Signing.PrivateKey()
    }

    /// Creates a key from PEM, or returns `nil` if the text is not the PEM of a P-256 key.
    package init?(pem: String) {
        guard let key = try? P256.Signing.PrivateKey(pemRepresentation: pem) else { return nil }
        self.key = key
    }

    /// Creates a key from the 32 bytes of its private scalar, or returns `nil` if they are no valid scalar.
    package init?(raw: [UInt8]) {
        guard let key = try? P256.Signing.PrivateKey(rawRepresentation: raw) else { return nil }
        self.key = key
    }

    /// The key as one PKCS #8 PEM block that ends with a line feed.
    package var pem: String { key.pemRepresentation + "\n" }
    package var raw: [UInt8] { Array(key.rawRepresentation) }
    package var publicKey: P256.Signing.PublicKey { key.publicKey }

    package static func == (left: AccountKey, right: AccountKey) -> Bool { left.raw == right.raw }

    /// The public key as a JSON Web Key (RFC 7518 §6.2.1).
    package var jwk: [String: JSONValue] {
        let point = Array(key.publicKey.rawRepresentation)
        return [
            "kty": .string("EC"), "crv": .string("P-256"),
            "x": .string(Base64URL.encode(point[..<32])), "y": .string(Base64URL.encode(point[32...])),
        ]
    }

    /// The base64url of the public key's SHA-256 thumbprint (RFC 7638), which identifies the account's key in public.
    package var thumbprint: String { Self.thumbprint(jwk) }

    /// Computes a thumbprint (RFC 7638): the hash of the required members in lexicographic order without white space,
    /// which is how ``Formats/JSONValue`` writes objects.
    ///
    /// - Parameter key: The required members and no other ones.
    package static func thumbprint(_ key: [String: JSONValue]) -> String {
        Base64URL.encode(Array(SHA256.hash(data: key.json)))
    }

    /// Returns the key authorization for a token, by which the holder of this key responds to a challenge (RFC 8555
    /// §8.1).
    package func keyAuthorization(_ token: String) -> String { "\(token).\(thumbprint)" }

    /// Signs bytes. Returns r and s, 32 bytes each, which is the form that JOSE uses (RFC 7518 §3.4).
    package func sign(_ bytes: [UInt8]) -> [UInt8] {
        do {
            return Array(try key.signature(for: bytes).rawRepresentation)
        } catch {
            preconditionFailure("a P-256 key signs everything: \(error)")
        }
    }
}

extension AccountKey: CustomStringConvertible {
    /// The thumbprint, so that the key is never logged.
    package var description: String { "account key \(thumbprint)" }
}
