import HopProtocol

/// The host and port of a request: `Host` or the authority of an absolute-form target (RFC 9110 §7.2, RFC 3986 §3.2.2).
/// `DNSName` in Formats compares its rules with those of the other host names.
package struct RequestAuthority: Equatable, Sendable {
    /// The host in lower case, without port and trailing dot. An IPv6 address keeps its brackets. For look-ups only.
    package var host: String
    /// The port, or `nil` if none is given.
    package var port: Int?

    /// Parses `uri-host [":" port]`.
    ///
    /// - Returns: `nil` for any other text: one with user information, an empty label, a port out of range, or a byte
    ///   that a host cannot have.
    package static func parse(_ text: String) -> RequestAuthority? {
        var text = text
        return text.withUTF8 { bytes in parse(UnsafeRawBufferPointer(bytes)) }
    }

    private static func parse(_ bytes: UnsafeRawBufferPointer) -> RequestAuthority? {
        guard !bytes.isEmpty, bytes.count <= 255 + 6 else { return nil }
        var end = 0
        var hasUppercase = false
        if bytes[0] == UInt8(ascii: "[") {
            end = 1
            while end < bytes.count, bytes[end] != UInt8(ascii: "]") {
                guard isAddressByte(bytes[end]) else { return nil }
                if bytes[end] &- 0x41 < 26 { hasUppercase = true }
                end += 1
            }
            guard end < bytes.count, end > 2 else { return nil }
            end += 1
        } else {
            while end < bytes.count, bytes[end] != UInt8(ascii: ":") {
                guard isNameByte(bytes[end]) else { return nil }
                if bytes[end] &- 0x41 < 26 { hasUppercase = true }
                end += 1
            }
        }
        var port: Int?
        if end < bytes.count {
            guard bytes[end] == UInt8(ascii: ":") else { return nil }
            let digits = UnsafeRawBufferPointer(rebasing: bytes[(end + 1)...])
            // RFC 3986 §3.2.3 allows an empty port. It is rejected, because implementations interpret it differently.
            guard digits.count <= 5, let value = ASCII.decimal(digits), (1...65_535).contains(value) else {
                return nil
            }
            port = value
        }
        var length = end
        if bytes[length - 1] == UInt8(ascii: ".") { length -= 1 }
        guard length > 0 else { return nil }
        let name = UnsafeRawBufferPointer(rebasing: bytes[..<length])
        guard !hasEmptyLabel(name) else { return nil }
        let host = String(decoding: name, as: UTF8.self)
        return RequestAuthority(host: hasUppercase ? host.lowercased() : host, port: port)
    }

    private static func hasEmptyLabel(_ name: UnsafeRawBufferPointer) -> Bool {
        var previous = UInt8(ascii: ".")
        for byte in name {
            if byte == UInt8(ascii: "."), previous == byte { return true }
            previous = byte
        }
        return previous == UInt8(ascii: ".")
    }

    /// Whether the byte may stand in a name. Percent-encoding and sub-delims, which RFC 3986 allows, are rejected.
    private static func isNameByte(_ byte: UInt8) -> Bool {
        switch byte {
        case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
            UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "-"), UInt8(ascii: "."), UInt8(ascii: "_"):
            true
        default: false
        }
    }

    private static func isAddressByte(_ byte: UInt8) -> Bool {
        switch byte {
        case UInt8(ascii: "a")...UInt8(ascii: "f"), UInt8(ascii: "A")...UInt8(ascii: "F"),
            UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: ":"), UInt8(ascii: "."):
            return true
        default:
            return false
        }
    }
}
