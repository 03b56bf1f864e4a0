import Crypto
import Formats

/// The SHA-256 hash of the text of a secret, the only trace of the secret that a gateway keeps.
package struct SecretHash: Sendable, Equatable {
    static let length = 32

    let bytes: [UInt8]

    init(of secret: String) {
        bytes = Array(SHA256.hash(data: Array(secret.utf8)))
    }

    /// Decodes 64 hexadecimal digits, or returns `nil` for any other text.
    init?(hexadecimal text: String) {
        guard let bytes = Hex.bytes(text), bytes.count == Self.length else { return nil }
        self.bytes = bytes
    }

    var hexadecimal: String { Hex.string(bytes) }

    package static func == (left: SecretHash, right: SecretHash) -> Bool {
        constantTimeEquals(left.bytes, right.bytes)
    }
}
