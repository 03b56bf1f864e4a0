import Formats

/// What a CA gave to its customer to bind ACME accounts to an account of its own (RFC 8555 section 7.3.4).
package struct ExternalAccount: Equatable, Sendable {
    package let keyID: String
    let macKey: [UInt8]

    /// - Parameter key: base64url as the standard says, or ordinary base 64 as some CAs print it; nil if it is neither.
    package init?(keyID: String, key: String) {
        var text = ""
        for character in key where character != "=" {
            switch character {
            case "+": text.append("-")
            case "/": text.append("_")
            default: text.append(character)
            }
        }
        guard !keyID.isEmpty, let bytes = Base64URL.decode(text), !bytes.isEmpty else { return nil }
        self.keyID = keyID
        macKey = bytes
    }
}

extension ExternalAccount: CustomStringConvertible {
    /// Its id; the key never gets into a log.
    package var description: String { "external account \(keyID)" }
}
