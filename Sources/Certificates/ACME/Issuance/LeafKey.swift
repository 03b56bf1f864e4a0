import Crypto
import X509

/// The private key of a certificate: P-256, a fresh one for each order.
package struct LeafKey: Sendable, Equatable {
    let key: P256.Signing.PrivateKey

    package init() {
        key = P256.Signing.PrivateKey()
    }

    /// Nil if the text is no PEM of a P-256 key.
    package init?(pem: String) {
        guard let key = try? P256.Signing.PrivateKey(pemRepresentation: pem) else { return nil }
        self.key = key
    }

    /// PKCS #8, as a PEM block with a line feed at its end.
    package var pem: String { key.pemRepresentation + "\n" }

    var publicKey: Certificate.PublicKey { Certificate.PublicKey(key.publicKey) }

    package static func == (left: LeafKey, right: LeafKey) -> Bool {
        left.key.rawRepresentation == right.key.rawRepresentation
    }
}

extension LeafKey: CustomStringConvertible {
    /// The key never gets into a log.
    package var description: String { "leaf key" }
}
