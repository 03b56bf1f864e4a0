/// A foreign value as messages show it: in quotes, control characters escaped, cut at 80 characters, and with anything
/// that looks like one of our tokens masked, because a token pasted into the wrong key must not reach a log.
package func quoted(_ text: String) -> String { "\"\(escaped(text))\"" }

/// A foreign name as part of a longer one (`services.web`): as `quoted` shows it, without the quotes.
func escaped(_ text: String) -> String {
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

/// `text` with the rest of every word that begins with a token's prefix replaced.
package func masked(_ text: String) -> String {
    let prefix = Array("hgt_".utf8)
    let bytes = Array(text.utf8)
    var result: [UInt8] = []
    var index = 0
    while index < bytes.count {
        guard bytes[index...].starts(with: prefix) else {
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
    // - . _ + / = ~ stand in the usual encodings of secrets.
    case 0x2D, 0x2E, 0x5F, 0x2B, 0x2F, 0x3D, 0x7E: true
    default: false
    }
}

/// Characters that a terminal does not show but that reorder or hide what it shows.
private func isFormat(_ scalar: Unicode.Scalar) -> Bool {
    switch scalar.properties.generalCategory {
    case .format, .lineSeparator, .paragraphSeparator: true
    default: false
    }
}
