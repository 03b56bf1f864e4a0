/// How deep and how large a JSON text is, found without parsing it. Decoding costs much for each value, and more the
/// deeper it stands: 1 KiB of brackets took seconds.
enum JSONShape {
    static let depth = 16
    /// Values, roughly: an order of 100 names has about 700.
    static let values = 4_096

    static func isModest(_ bytes: [UInt8]) -> Bool {
        var depth = 0
        var values = 0
        var isInText = false
        var isEscaped = false
        for byte in bytes {
            // The decoder would take UTF-16 and UTF-32, in which quotation marks stand elsewhere. Both have zeros.
            if byte == 0 { return false }
            if isInText {
                if isEscaped {
                    isEscaped = false
                } else if byte == UInt8(ascii: "\\") {
                    isEscaped = true
                } else if byte == UInt8(ascii: "\"") {
                    isInText = false
                }
                continue
            }
            switch byte {
            case UInt8(ascii: "\""): isInText = true
            case UInt8(ascii: "["), UInt8(ascii: "{"):
                depth += 1
                values += 1
            case UInt8(ascii: "]"), UInt8(ascii: "}"): depth -= 1
            case UInt8(ascii: ","): values += 1
            default: break
            }
            if depth > Self.depth || values > Self.values { return false }
        }
        return true
    }
}
