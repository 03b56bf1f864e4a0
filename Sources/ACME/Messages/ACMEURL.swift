/// An absolute https URL that a CA sent or the operator configured. An http URL is accepted only for
/// loopback hosts, for test CAs.
///
/// The text is sent exactly as it was written, since the signature of a request covers it (RFC 8555 §6.4).
package struct ACMEURL: Hashable, Sendable, CustomStringConvertible {
    package static let lengthLimit = 2_048

    package let text: String
    /// The host in lower case, without a trailing dot and without the brackets of an IPv6 address.
    package let host: String
    package let isSecure: Bool

    /// Creates a URL, or returns `nil` if the text is too long or has another scheme, a user, a fragment, an invalid
    /// port, characters that no URL may contain, or a host that programs might interpret as different addresses.
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

    /// Whether the host is this machine.
    package var isLoopback: Bool {
        if host == "localhost" || host.hasSuffix(".localhost") { return true }
        guard case .address(let address) = CertificateName(host) else { return false }
        // A connection to the unspecified address reaches this machine as well.
        return address.hasPrefix("127.") || address.hasPrefix("0.") || ["::", "::1"].contains(address)
            || address.hasPrefix("::ffff:127.") || address.hasPrefix("::ffff:0.")
    }

    /// Whether a document of this URL may refer to the other one. A CA elsewhere must not direct requests to this
    /// machine.
    package func mayReference(_ other: ACMEURL) -> Bool {
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
        // The rules for names in certificates apply: labels, or a complete address.
        guard let name = CertificateName(String(host)) else { return nil }
        switch name {
        case .address(let address): return address
        case .dns(let name):
            // Some programs interpret a host that ends in a number as an address, such as 127.1 and 0x7f000001.
            let last = name.split(separator: ".").last ?? ""
            let isNumber = last.utf8.allSatisfy { (UInt8(ascii: "0")...UInt8(ascii: "9")).contains($0) }
            return name.hasPrefix("*") || isNumber || last.hasPrefix("0x") ? nil : name
        }
    }

    /// - Parameter port: The port with its colon.
    private static func isPort(_ port: Substring) -> Bool {
        guard port.first == ":", port.utf8.count <= 6 else { return false }
        let digits = port.dropFirst()
        guard digits.utf8.allSatisfy({ (UInt8(ascii: "0")...UInt8(ascii: "9")).contains($0) }),
            let number = Int(digits)
        else { return false }
        return (1...65_535).contains(number)
    }

    /// Whether the byte is visible ASCII that RFC 3986 permits in a URL.
    private static func isAllowed(_ byte: UInt8) -> Bool {
        switch byte {
        case UInt8(ascii: "\""), UInt8(ascii: "<"), UInt8(ascii: ">"), UInt8(ascii: "\\"), UInt8(ascii: "^"),
            UInt8(ascii: "`"), UInt8(ascii: "{"), UInt8(ascii: "|"), UInt8(ascii: "}"):
            false
        default: (0x21...0x7e).contains(byte)
        }
    }
}
