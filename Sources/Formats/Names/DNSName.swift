/// The syntax of host names: labels of 1 to 63 letters, digits, hyphens and underscores, separated by dots, without a
/// hyphen at either end of a label; 253 bytes in all (RFC 1035 §2.3.4, RFC 1123 §2.1).
///
/// Those standards have no underscores, but container platforms put them into names. International names are accepted in
/// their `xn--` form only.
///
/// Host names are read in four places, which accept different texts on purpose:
///
/// | | letters | last label of digits only | trailing dot | IPv6 address | `*.` in front |
/// |---|---|---|---|---|---|
/// | ``isHostName(_:)``: settings, join strings | either case | rejected: a mistyped IPv4 address | rejected | other parsers | rejected |
/// | ``HostPattern``: routes, tokens, agents | either case | rejected, as above | rejected | without brackets | accepted |
/// | `CertificateName` in ACME | either case | accepted | removed | without brackets | accepted |
/// | `RequestAuthority` in Gateway | either case | accepted | removed | in brackets | rejected |
///
/// All of them compare names in lower case. `RequestAuthority` bounds a name at 255 bytes, and checks neither the length
/// of labels nor the position of hyphens: it reads the `Host` field of every request, and such a name matches no route.
package enum DNSName {
    /// Properties of a text that is a host name.
    package struct Syntax: Equatable, Sendable {
        package var hasUppercaseLetter = false
        /// Whether the last label consists of digits only, as that of `10.0.0` does.
        package var endsWithNumber = false

        @inlinable
        init() {}
    }

    /// - Parameter name: The UTF-8 bytes of the text.
    /// - Returns: `nil` if the text is not a host name.
    @inlinable
    package static func syntax(of name: some Sequence<UInt8>) -> Syntax? {
        var syntax = Syntax()
        var size = 0
        var label = 0
        var isNumber = true
        var endsWithHyphen = false
        for byte in name {
            size &+= 1
            if byte == UInt8(ascii: ".") {
                guard label > 0, !endsWithHyphen else { return nil }
                label = 0
                isNumber = true
                continue
            }
            guard isLabelByte(byte) else { return nil }
            endsWithHyphen = byte == UInt8(ascii: "-")
            if endsWithHyphen, label == 0 { return nil }
            if byte > UInt8(ascii: "9") || endsWithHyphen { isNumber = false }
            if byte >= UInt8(ascii: "A"), byte <= UInt8(ascii: "Z") { syntax.hasUppercaseLetter = true }
            label &+= 1
            guard label <= 63 else { return nil }
        }
        guard label > 0, !endsWithHyphen, size <= 253 else { return nil }
        syntax.endsWithNumber = isNumber
        return syntax
    }

    /// Whether the text is a host name whose last label is not a number: `10.0.0` and `1.2.3.4.5` are mistyped addresses.
    package static func isHostName(_ text: some StringProtocol) -> Bool {
        syntax(of: text.utf8).map { !$0.endsWithNumber } ?? false
    }

    /// Whether the byte is a letter of either case, a digit, a hyphen or an underscore.
    @inlinable
    package static func isLabelByte(_ byte: UInt8) -> Bool {
        switch byte {
        case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
            UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "-"), UInt8(ascii: "_"):
            true
        default: false
        }
    }
}
