/// The id of one request for its whole life, over every attempt. 128 random bits; 32 hexadecimal digits as text.
package struct RequestID: Hashable, Sendable, CustomStringConvertible {
    package var rawValue: UInt128

    package init(rawValue: UInt128) { self.rawValue = rawValue }

    package init?(hex: some StringProtocol) {
        guard let value = UInt128(fixedHex: hex) else { return nil }
        self.rawValue = value
    }

    package static func random() -> RequestID {
        RequestID(rawValue: .random(in: .min ... .max))
    }

    package var description: String { rawValue.fixedHex }
}

/// The id of one agent process (one *run*). 128 random bits; 32 hexadecimal digits as text and in JSON.
package struct RunID: Hashable, Sendable, CustomStringConvertible {
    package var rawValue: UInt128

    package init(rawValue: UInt128) { self.rawValue = rawValue }

    package init?(hex: some StringProtocol) {
        guard let value = UInt128(fixedHex: hex) else { return nil }
        self.rawValue = value
    }

    package static func random() -> RunID {
        RunID(rawValue: .random(in: .min ... .max))
    }

    package var description: String { rawValue.fixedHex }
}

extension RunID: Codable {
    package init(from decoder: any Decoder) throws {
        let container = try decoder.singleValueContainer()
        let text = try container.decode(String.self)
        guard let value = UInt128(fixedHex: text) else {
            throw DecodingError.dataCorruptedError(in: container, debugDescription: "a run id is 32 hexadecimal digits")
        }
        self.init(rawValue: value)
    }

    package func encode(to encoder: any Encoder) throws {
        var container = encoder.singleValueContainer()
        try container.encode(description)
    }
}

extension UInt128 {
    /// Parses exactly 32 hexadecimal digits. `UInt128(_:radix:)` alone would accept a sign and fewer digits.
    fileprivate init?(fixedHex text: some StringProtocol) {
        guard text.utf8.count == 32 else { return nil }
        var value: UInt128 = 0
        for byte in text.utf8 {
            let digit: UInt8
            switch byte {
            case UInt8(ascii: "0")...UInt8(ascii: "9"): digit = byte &- UInt8(ascii: "0")
            case UInt8(ascii: "a")...UInt8(ascii: "f"): digit = byte &- UInt8(ascii: "a") &+ 10
            case UInt8(ascii: "A")...UInt8(ascii: "F"): digit = byte &- UInt8(ascii: "A") &+ 10
            default: return nil
            }
            value = value << 4 | UInt128(digit)
        }
        self = value
    }

    fileprivate var fixedHex: String {
        String(unsafeUninitializedCapacity: 32) { bytes in
            var rest = self
            for index in stride(from: 31, through: 0, by: -1) {
                let digit = UInt8(truncatingIfNeeded: rest & 0xF)
                bytes[index] = digit < 10 ? UInt8(ascii: "0") + digit : UInt8(ascii: "a") + digit - 10
                rest >>= 4
            }
            return 32
        }
    }
}
