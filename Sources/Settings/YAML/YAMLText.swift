/// Checks of the text before libyaml parses it, since libyaml reports an encoding error by its byte offset and without
/// a line.
enum YAMLText {
    /// The first problem that makes `bytes` unusable as YAML text, or `nil` if there is none.
    static func problem(in bytes: UnsafeRawBufferPointer, limits: YAMLLimits) -> YAMLProblem? {
        let start = YAMLNode.Mark(line: 1, column: 1)
        guard bytes.count <= limits.size else {
            return YAMLProblem(
                mark: start,
                what: "is larger than \(limits.size / 1024) KiB",
                remedy: "Is this the right file?"
            )
        }
        if bytes.starts(with: [0xFF, 0xFE]) || bytes.starts(with: [0xFE, 0xFF]) {
            return YAMLProblem(mark: start, what: "is UTF-16 text", remedy: "Save it as UTF-8.")
        }
        var line = 1
        var column = 1
        var index = 0
        while index < bytes.count {
            let byte = bytes[index]
            let length = sequenceLength(bytes, at: index)
            let mark = YAMLNode.Mark(line: line, column: column)
            guard length > 0 else {
                return YAMLProblem(
                    mark: mark,
                    what: "byte \(hex(byte)) is not UTF-8",
                    remedy: "Save the file as UTF-8."
                )
            }
            if byte < 0x20 && byte != 0x09 && byte != 0x0A && byte != 0x0D || byte == 0x7F {
                return YAMLProblem(
                    mark: mark,
                    what: "control character \(hex(byte))",
                    remedy: "Remove it, or is this a binary file?"
                )
            }
            index += length
            if byte == 0x0A {
                line += 1
                column = 1
            } else {
                column += 1
            }
        }
        return nil
    }

    /// Whether the indentation of `line` (from 1) contains a tab. libyaml's message about that mistake is hard to
    /// understand ("found character that cannot start any token").
    static func indentsWithTab(_ bytes: UnsafeRawBufferPointer, line: Int) -> Bool {
        var current = 1
        var index = 0
        while index < bytes.count && current < line {
            if bytes[index] == 0x0A { current += 1 }
            index += 1
        }
        while index < bytes.count && (bytes[index] == 0x20 || bytes[index] == 0x09) {
            if bytes[index] == 0x09 { return true }
            index += 1
        }
        return false
    }

    /// The number of lines of the text, not counting an empty one after the last line break.
    static func lineCount(_ bytes: UnsafeRawBufferPointer) -> Int {
        var count = 1
        for index in bytes.indices.dropLast() where bytes[index] == 0x0A { count += 1 }
        return count
    }

    /// The length of the well-formed UTF-8 sequence at `index` (Unicode 15, table 3-7), or 0 if it is ill-formed.
    private static func sequenceLength(_ bytes: UnsafeRawBufferPointer, at index: Int) -> Int {
        func continues(_ offset: Int, _ range: ClosedRange<UInt8> = 0x80...0xBF) -> Bool {
            index + offset < bytes.count && range.contains(bytes[index + offset])
        }
        switch bytes[index] {
        case 0x00...0x7F: return 1
        case 0xC2...0xDF: return continues(1) ? 2 : 0
        case 0xE0: return continues(1, 0xA0...0xBF) && continues(2) ? 3 : 0
        case 0xED: return continues(1, 0x80...0x9F) && continues(2) ? 3 : 0
        case 0xE1...0xEF: return continues(1) && continues(2) ? 3 : 0
        case 0xF0: return continues(1, 0x90...0xBF) && continues(2) && continues(3) ? 4 : 0
        case 0xF4: return continues(1, 0x80...0x8F) && continues(2) && continues(3) ? 4 : 0
        case 0xF1...0xF3: return continues(1) && continues(2) && continues(3) ? 4 : 0
        default: return 0
        }
    }

    private static func hex(_ byte: UInt8) -> String {
        let digits = String(byte, radix: 16, uppercase: true)
        return "0x" + (digits.count == 1 ? "0" : "") + digits
    }
}
