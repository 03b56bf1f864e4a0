import Crypto
import Formats

/// A token as its owner receives it, once: `hgt_<id>.<secret>`. The gateway keeps only the hash of the secret.
///
/// Interpolation, `dump` and reflection show the id only; the complete token is in ``text``.
package struct IssuedToken: Sendable, CustomStringConvertible, CustomDebugStringConvertible, CustomReflectable {
    /// The public part, which names the credential in files and logs.
    package let id: String
    /// 256 random bits in base64url.
    package let secret: String

    /// Creates a token with a random id and a random secret.
    package init() {
        id = Self.randomID()
        secret = Self.randomSecret()
    }

    /// Creates another secret for an existing token.
    package init(id: String) {
        precondition(Self.isID(id))
        self.id = id
        secret = Self.randomSecret()
    }

    /// Parses the text of a token, such as that in a join string. `nil` if it does not have the form of a token.
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

    /// Creates an id: 80 random bits as 16 characters of base32 in lower case.
    private static func randomID() -> String {
        let alphabet = Array("abcdefghijklmnopqrstuvwxyz234567".utf8)
        var generator = SystemRandomNumberGenerator()
        return String(decoding: (0..<16).map { _ in alphabet.randomElement(using: &generator)! }, as: UTF8.self)
    }

    /// Whether the text has the form of an id.
    package static func isID(_ text: String) -> Bool {
        text.utf8.count == 16
            && text.utf8.allSatisfy { byte in
                (UInt8(ascii: "a")...UInt8(ascii: "z")).contains(byte)
                    || (UInt8(ascii: "2")...UInt8(ascii: "7")).contains(byte)
            }
    }
}
