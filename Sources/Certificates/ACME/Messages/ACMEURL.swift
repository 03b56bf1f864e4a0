/// An absolute URL that a CA named, or the operator for its directory: https; or http to this machine itself, which
/// only a CA for tests is.
///
/// It is sent as it was written, since the signature of a request covers its text (RFC 8555 section 6.4).
package struct ACMEURL: Hashable, Sendable, CustomStringConvertible {
    package static let lengthLimit = 2_048

    package let text: String
    /// In lower case, without a final dot, without the brackets of an IPv6 address.
    package let host: String
    package let isSecure: Bool

    /// Nil if it is anything else: of another scheme, with a user, with a fragment, with characters that no URL has, or
    /// with a host that programs may read as different addresses.
    package init?(_ text: String) {
        let bytes = Array(text.utf8)
        guard bytes.count <= Self.lengthLimit, bytes.allSatisfy(Self.isAllowed), !bytes.contains(UInt8(ascii: "#"))
        else { return nil }
        let rest: Substring
        switch text.prefix(8).lowercased() {
        case "https://":
            isSecure = true
            rest = text.dropFirst(8)
        case let start where start.hasPrefix("http://"):
            isSecure = false
            rest = text.dropFirst(7)
        default: return nil
        }
        let authority = rest.prefix { $0 != "/" && $0 != "?" }
        guard let host = Self.host(authority) else { return nil }
        self.text = text
        self.host = host
        guard isSecure || isLoopback else { return nil }
    }

    package var description: String { text }

    /// It leads to this machine itself.
    package var isLoopback: Bool {
        if host == "localhost" || host.hasSuffix(".localhost") { return true }
        guard case .address(let address) = CertificateName(host) else { return false }
        // The unspecified address is connected to as if it were this machine's own.
        return address.hasPrefix("127.") || address.hasPrefix("0.") || ["::", "::1"].contains(address)
            || address.hasPrefix("::ffff:127.") || address.hasPrefix("::ffff:0.")
    }

    /// A CA elsewhere has no business on this machine.
    package func mayLead(to other: ACMEURL) -> Bool {
        isLoopback || !other.isLoopback
    }

    private static func host(_ authority: Substring) -> String? {
        let host: Substring
        var port = authority[authority.endIndex...]
        if authority.hasPrefix("[") {
            guard let end = authority.firstIndex(of: "]") else { return nil }
            host = authority[authority.index(after: authority.startIndex)..<end]
            port = authority[authority.index(after: end)...]
            guard host.contains(":") else { return nil }
        } else {
            let end = authority.firstIndex(of: ":") ?? authority.endIndex
            host = authority[..<end]
            port = authority[end...]
        }
        guard port.isEmpty || isPort(port) else { return nil }
        // The same rules as for names of certificates: labels, or an address in full.
        guard let name = CertificateName(String(host)) else { return nil }
        switch name {
        case .address(let address): return address
        case .dns(let name):
            // A host that ends in a number is an address to some programs, such as 127.1 and 0x7f000001.
            let last = name.split(separator: ".").last ?? ""
            let isNumber = last.utf8.allSatisfy { (UInt8(ascii: "0")...UInt8(ascii: "9")).contains($0) }
            return name.hasPrefix("*") || isNumber || last.hasPrefix("0x") ? nil : name
        }
    }

    /// - Parameter port: with its colon.
    private static func isPort(_ port: Substring) -> Bool {
        guard port.first == ":", port.utf8.count <= 6 else { return false }
        let digits = port.dropFirst()
        guard digits.utf8.allSatisfy({ (UInt8(ascii: "0")...UInt8(ascii: "9")).contains($0) }),
            let number = Int(digits)
        else { return false }
        return (1...65_535).contains(number)
    }

    /// Visible ASCII, without what RFC 3986 leaves out.
    private static func isAllowed(_ byte: UInt8) -> Bool {
        switch byte {
        case UInt8(ascii: "\""), UInt8(ascii: "<"), UInt8(ascii: ">"), UInt8(ascii: "\\"), UInt8(ascii: "^"),
            UInt8(ascii: "`"), UInt8(ascii: "{"), UInt8(ascii: "|"), UInt8(ascii: "}"):
            false
        default: (0x21...0x7e).contains(byte)
        }
    }
}
