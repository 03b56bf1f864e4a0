package import Formats
import Settings

/// The credential of an agent: `hgt_<id>.<secret>`.
///
/// Printing, string interpolation, `dump` and reflection show the id only.
package struct AgentToken: Sendable, Equatable, CustomStringConvertible, CustomDebugStringConvertible,
    CustomReflectable
{
    /// The public part, without the prefix, which names the credential in logs.
    package let id: String
    /// The secret part, which is only used in HELLO.
    package let secret: String

    package init(id: String, secret: String) {
        self.id = id
        self.secret = secret
    }

    package var description: String { "hgt_\(id).…" }
    package var debugDescription: String { description }
    package var customMirror: Mirror { Mirror(self, children: ["id": id]) }

    /// Parses a token. No error repeats any part of the text: it may be another kind of secret, pasted by mistake.
    package static func parse(_ text: String) throws(FormatError) -> AgentToken {
        let remedy = "Copy the whole line that \"hopgate token create\" printed."
        guard text.hasPrefix("hgt_") else { throw FormatError("does not begin with \"hgt_\"", remedy) }
        let parts = text.dropFirst(4).split(separator: ".", omittingEmptySubsequences: false)
        guard parts.count == 2, parts.allSatisfy({ !$0.isEmpty }) else {
            throw FormatError("is not of the form hgt_ID.SECRET", remedy)
        }
        guard text.utf8.count <= 1024, text.utf8.dropFirst(4).allSatisfy({ isTokenByte($0) }) else {
            throw FormatError("contains characters that no token has, or is truncated or wrapped", remedy)
        }
        return AgentToken(id: String(parts[0]), secret: String(parts[1]))
    }

    private static func isTokenByte(_ byte: UInt8) -> Bool {
        switch byte {
        case 0x30...0x39, 0x41...0x5A, 0x61...0x7A, 0x2D, 0x2E, 0x5F: true
        default: false
        }
    }
}
