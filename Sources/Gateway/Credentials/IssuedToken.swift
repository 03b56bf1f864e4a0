import Crypto
import Formats
import HopProtocol

/// A token as its owner gets it, once: `hgt_<id>.<secret>`. The gateway keeps only the hash of the secret.
///
/// Interpolation, `dump` and reflection show the id alone; the whole is in ``text``.
package struct IssuedToken: Sendable, CustomStringConvertible, CustomDebugStringConvertible, CustomReflectable {
    /// Public: names the credential in files and logs.
    package let id: String
    /// 256 random bits in base64url.
    package let secret: String

    package init() {
        id = Self.randomID()
        secret = Self.randomSecret()
    }

    /// Another secret of a token that is there already.
    package init(id: String) {
        precondition(Self.isID(id))
        self.id = id
        secret = Self.randomSecret()
    }

    /// One that somebody has, such as in a join string; nil if it is none of ours.
    package init?(_ text: String) {
        guard text.utf8.count <= 256, text.hasPrefix("hgt_") else { return nil }
        let parts = text.dropFirst(4).split(separator: ".", omittingEmptySubsequences: false)
        guard parts.count == 2, Self.isID(String(parts[0])), Base64URL.decode(parts[1])?.count == 32 else { return nil }
        id = String(parts[0])
        secret = String(parts[1])
    }

    package var text: String { "hgt_\(id).\(secret)" }

    package var description: String { "hgt_\(id).…" }
    package var debugDescription: String { description }
    package var customMirror: Mirror { Mirror(self, children: ["id": id]) }

    private static func randomSecret() -> String {
        SymmetricKey(size: .bits256).withUnsafeBytes { Base64URL.encode($0) }
    }

    /// 16 characters of base32 in lower case: 80 bits.
    private static func randomID() -> String {
        let alphabet = Array("abcdefghijklmnopqrstuvwxyz234567".utf8)
        var generator = SystemRandomNumberGenerator()
        return String(decoding: (0..<16).map { _ in alphabet.randomElement(using: &generator)! }, as: UTF8.self)
    }

    package static func isID(_ text: String) -> Bool {
        text.utf8.count == 16
            && text.utf8.allSatisfy { byte in
                (UInt8(ascii: "a")...UInt8(ascii: "z")).contains(byte)
                    || (UInt8(ascii: "2")...UInt8(ascii: "7")).contains(byte)
            }
    }
}

/// The SHA-256 of a secret's text: all of the secret that a gateway keeps.
package struct SecretHash: Sendable, Equatable {
    static let length = 32

    let bytes: [UInt8]

    init(of secret: String) {
        bytes = Array(SHA256.hash(data: Array(secret.utf8)))
    }

    /// Nil unless it is 64 hexadecimal digits.
    init?(hexadecimal text: String) {
        guard let bytes = Hex.bytes(text), bytes.count == Self.length else { return nil }
        self.bytes = bytes
    }

    var hexadecimal: String { Hex.string(bytes) }

    package static func == (left: SecretHash, right: SecretHash) -> Bool {
        constantTimeEquals(left.bytes, right.bytes)
    }
}

/// Takes as long for bytes that differ at the start as for equal ones; only lengths are told apart early.
package func constantTimeEquals(_ left: [UInt8], _ right: [UInt8]) -> Bool {
    guard left.count == right.count else { return false }
    var difference: UInt8 = 0
    for index in left.indices { difference |= left[index] ^ right[index] }
    return difference == 0
}
