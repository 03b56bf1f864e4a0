/// A foreign value for messages: in quotes, with control characters escaped, truncated after 80 characters, and with
/// anything that begins like one of our tokens or join strings masked, since a secret that was pasted into the wrong
/// key must not reach a log.
package func quoted(_ text: String) -> String { "\"\(escaped(text))\"" }

/// A foreign name as part of a longer one (`services.web`): like ``quoted(_:)``, without the quotes.
package func escaped(_ text: String) -> String {
    var result = ""
    var count = 0
    for character in masked(text).unicodeScalars {
        if count == 80 {
            result += "…"
            break
        }
        count += 1
        switch character {
        case "\"", "\\": result += "\\\(character)"
        case "\n": result += "\\n"
        case "\r": result += "\\r"
        case "\t": result += "\\t"
        case _ where character.value < 0x20 || (0x7F...0x9F).contains(character.value) || isFormat(character):
            result += "\\u{\(String(character.value, radix: 16))}"
        default: result.unicodeScalars.append(character)
        }
    }
    return result
}

/// A word of a command that an operator copies to a shell (POSIX.1-2024 §2.2): in single quotes if the shell would
/// interpret it.
package func shellWord(_ text: String) -> String {
    let isPlain = text.utf8.allSatisfy { isTokenByte($0) || ":@%,".utf8.contains($0) }
    if isPlain, !text.isEmpty, text.utf8.first != UInt8(ascii: "~") { return text }
    return "'" + text.split(separator: "'", omittingEmptySubsequences: false).joined(separator: #"'\''"#) + "'"
}

/// The prefixes of tokens and join strings.
private let secretPrefixes = ["hgt_", "hgj_"].map { Array($0.utf8) }

/// The text with each word that begins with the prefix of a token or join string masked after that prefix.
package func masked(_ text: String) -> String {
    let bytes = Array(text.utf8)
    var result: [UInt8] = []
    var index = 0
    while index < bytes.count {
        guard let prefix = secretPrefixes.first(where: { bytes[index...].starts(with: $0) }) else {
            result.append(bytes[index])
            index += 1
            continue
        }
        result += prefix + Array("…".utf8)
        index += prefix.count
        while index < bytes.count, isTokenByte(bytes[index]) { index += 1 }
    }
    return String(decoding: result, as: UTF8.self)
}

private func isTokenByte(_ byte: UInt8) -> Bool {
    switch byte {
    case 0x30...0x39, 0x41...0x5A, 0x61...0x7A: true
    // - . _ + / = ~ occur in the usual encodings of secrets.
    case 0x2D, 0x2E, 0x5F, 0x2B, 0x2F, 0x3D, 0x7E: true
    default: false
    }
}

/// Whether a character is invisible but can reorder or hide text on a terminal.
private func isFormat(_ scalar: Unicode.Scalar) -> Bool {
    switch scalar.properties.generalCategory {
    case .format, .lineSeparator, .paragraphSeparator: true
    default: false
    }
}
