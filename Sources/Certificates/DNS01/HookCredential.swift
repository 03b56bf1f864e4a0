import FoundationEssentials

/// The credential of an HTTP hook: a bearer token, or a name and a password. No description contains it.
package struct HookCredential: Sendable, Equatable {
    package static let longest = 4_096

    /// The value of the field `Authorization`.
    let authorization: String

    /// Creates a credential, or returns `nil` if the text cannot be sent.
    ///
    /// - Parameter text: A token (RFC 6750 §2.1), or `NAME:PASSWORD` (RFC 7617). A colon cannot occur in a token.
    package init?(_ text: String) {
        let bytes = Array(text.utf8)
        guard (1...Self.longest).contains(bytes.count) else { return nil }
        if let colon = bytes.firstIndex(of: UInt8(ascii: ":")) {
            // Any characters except control characters are allowed, including spaces.
            guard colon > 0, bytes.allSatisfy({ $0 >= 0x20 && $0 != 0x7f }) else { return nil }
            authorization = "Basic \(Data(bytes).base64EncodedString())"
        } else {
            guard bytes.allSatisfy({ (0x21...0x7e).contains($0) }) else { return nil }
            authorization = "Bearer \(text)"
        }
    }
}

extension HookCredential: CustomStringConvertible, CustomDebugStringConvertible, CustomReflectable {
    package var description: String { "(not shown)" }
    package var debugDescription: String { description }
    package var customMirror: Mirror { Mirror(self, children: [:]) }
}
