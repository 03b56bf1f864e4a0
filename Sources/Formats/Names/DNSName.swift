/// The syntax of host names: labels of 1 to 63 letters, digits, hyphens and underscores, separated by dots, without a
/// hyphen at either end of a label; 253 bytes in all (RFC 1035 §2.3.4, RFC 1123 §2.1).
///
/// Underscores are beside those standards, but container platforms put them into names. International names are
/// accepted in their `xn--` form only.
///
/// Host names are read in four places, which accept different texts on purpose. Where a last label of digits only is
/// rejected, it would be a mistyped IPv4 address.
///
/// | | letters | last label of digits only | trailing dot | IPv6 address | `*.` in front |
/// |---|---|---|---|---|---|
/// | ``isHostName(_:)``: settings, join strings | either case | rejected | rejected | other parsers | rejected |
/// | ``HostPattern``: routes, tokens, agents | either case | rejected | rejected | without brackets | accepted |
/// | `CertificateName` in ACME | either case | accepted | removed | without brackets | accepted |
/// | `RequestAuthority` in Gateway | either case | accepted | removed | in brackets | rejected |
///
/// All of them compare names in lower case. `RequestAuthority` bounds a name at 255 bytes, and checks neither the
/// length of labels nor the position of hyphens: it reads the `Host` field of every request, and such a name matches no
/// route.
package enum DNSName {
    /// Properties of a text that is a host name.
    package struct Syntax: Equatable, Sendable {
        package var hasUppercaseLetter = false
        /// Whether the last label consists of digits only, as that of `10.0.0` does.
        package var endsWithNumber = false

        @inlinable
        init() {}
    }

    /// Checks a text and describes it.
    ///
    /// - Parameter name: The UTF-8 bytes of the text.
    /// - Returns: `nil` if the text is not a host name.
    @inlinable
    package static func syntax(of name: some Collection<UInt8>) -> Syntax? {
        guard name.count <= 253 else { return nil }
        var syntax = Syntax()
        var label = 0
        var hasOtherThanDigits = false
        var previous = UInt8(ascii: ".")
        for byte in name {
            switch byte {
            case UInt8(ascii: "."):
                guard label > 0, previous != UInt8(ascii: "-") else { return nil }
                label = -1
                hasOtherThanDigits = false
            case UInt8(ascii: "-"):
                guard label > 0 else { return nil }
                hasOtherThanDigits = true
            case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "_"):
                hasOtherThanDigits = true
            case UInt8(ascii: "0")...UInt8(ascii: "9"):
                break
            case UInt8(ascii: "A")...UInt8(ascii: "Z"):
                hasOtherThanDigits = true
                syntax.hasUppercaseLetter = true
            default: return nil
            }
            label &+= 1
            guard label <= 63 else { return nil }
            previous = byte
        }
        guard label > 0, previous != UInt8(ascii: "-") else { return nil }
        syntax.endsWithNumber = !hasOtherThanDigits
        return syntax
    }

    /// Whether the text is a host name whose last label is not a number: `10.0.0` and `1.2.3.4.5` are mistyped
    /// addresses.
    package static func isHostName(_ text: some StringProtocol) -> Bool {
        syntax(of: text.utf8).map { !$0.endsWithNumber } ?? false
    }
}
