import Glibc

/// A host to connect to and its port.
package struct HostPort: Sendable, Hashable, CustomStringConvertible {
    /// A name in lower case, an IPv4 address, or an IPv6 address without brackets.
    package var host: String
    package var port: Int

    package init(host: String, port: Int) {
        self.host = host
        self.port = port
    }

    package var description: String { host.contains(":") ? "[\(host)]:\(port)" : "\(host):\(port)" }

    /// 127.0.0.0/8, ::1 or `localhost`.
    package var isLoopback: Bool {
        host == "localhost" || host == "::1" || (Host.isIPv4(host) && host.hasPrefix("127."))
    }

    /// `name`, `name:port`, `192.0.2.1:port`, `[2001:db8::1]`, `[2001:db8::1]:port`.
    ///
    /// - Parameter defaultPort: Used when no port is written; nil makes the port required.
    package static func parse(
        _ text: String,
        defaultPort: Int?,
        lowestPort: Int = 1,
        remedy: String = "Write HOST:PORT, as in 192.0.2.1:8443 or [2001:db8::1]:8443."
    ) throws(Complaint) -> HostPort {
        if text.contains("://") || text.contains("/") {
            throw Complaint("\(quoted(text)) is a URL or path, not a host and port", remedy)
        }
        var host = text[...]
        var port: Substring?
        if text.hasPrefix("[") {
            guard let end = text.firstIndex(of: "]") else {
                throw Complaint("\(quoted(text)) has no closing bracket", remedy)
            }
            let inner = String(text[text.index(after: text.startIndex)..<end])
            guard let canonical = Host.canonicalIPv6(inner) else {
                throw Complaint("\(quoted(text)) has no IPv6 address in its brackets", remedy)
            }
            host = canonical[...]
            let rest = text[text.index(after: end)...]
            if rest.hasPrefix(":") {
                port = rest.dropFirst()
            } else if !rest.isEmpty {
                throw Complaint("\(quoted(text)) has text after its bracket", remedy)
            }
        } else {
            let parts = text.split(separator: ":", maxSplits: 2, omittingEmptySubsequences: false)
            if parts.count > 2 { throw Complaint("\(quoted(text)) needs brackets around an IPv6 address", remedy) }
            host = parts[0]
            port = parts.count == 2 ? parts[1] : nil
            guard Host.isIPv4(String(host)) || Host.isName(String(host)) else {
                throw Complaint("\(quoted(text)) does not begin with a host name or address", remedy)
            }
        }
        let name = host.lowercased()
        if let port { return HostPort(host: name, port: try parsePort(port, from: lowestPort, remedy: remedy)) }
        guard let defaultPort else { throw Complaint("\(quoted(text)) has no port", remedy) }
        return HostPort(host: name, port: defaultPort)
    }

    static func parsePort(_ text: Substring, from lowest: Int, remedy: String) throws(Complaint) -> Int {
        guard !text.isEmpty, text.utf8.allSatisfy({ (0x30...0x39).contains($0) }), let port = Int(text),
            (lowest...65_535).contains(port)
        else { throw Complaint("port \(quoted(String(text))) is not a number from \(lowest) to 65535", remedy) }
        return port
    }
}

/// What counts as a host in settings.
package enum Host {
    package static func isIPv4(_ text: String) -> Bool {
        var address = in_addr()
        // A C string ends at the first NUL: without the check the text behind it would go unseen.
        return !text.utf8.contains(0) && inet_pton(AF_INET, text, &address) == 1
    }

    package static func isIPv6(_ text: String) -> Bool { canonicalIPv6(text) != nil }

    /// The one spelling of an IPv6 address that RFC 5952 recommends, so that equal addresses compare equal.
    package static func canonicalIPv6(_ text: String) -> String? {
        var address = in6_addr()
        guard !text.utf8.contains(0), inet_pton(AF_INET6, text, &address) == 1 else { return nil }
        return withUnsafeTemporaryAllocation(of: CChar.self, capacity: Int(INET6_ADDRSTRLEN)) { buffer in
            guard let start = buffer.baseAddress,
                inet_ntop(AF_INET6, &address, start, socklen_t(INET6_ADDRSTRLEN)) != nil
            else { return nil }
            return String(cString: start)
        }
    }

    /// Labels of letters, digits, hyphens and underscores (which container platforms put into names), 253 bytes in all.
    ///
    /// A last label of digits only is refused: 10.0.0 and 1.2.3.4.5 are mistyped addresses, not names.
    package static func isName(_ text: String) -> Bool {
        guard !text.isEmpty, text.utf8.count <= 253 else { return false }
        let labels = text.utf8.split(separator: 0x2E, omittingEmptySubsequences: false)
        for label in labels {
            guard (1...63).contains(label.count), label.first != 0x2D, label.last != 0x2D,
                label.allSatisfy({ isLetterOrDigit($0) || $0 == 0x2D || $0 == 0x5F })
            else { return false }
        }
        return !labels[labels.count - 1].allSatisfy { (0x30...0x39).contains($0) }
    }

    /// The host part of a request that a route or agent asks for: an exact name or address, or `*.` and a name.
    ///
    /// - Returns: It in lower case, as matching compares it.
    package static func parsePattern(_ text: String) throws(Complaint) -> String {
        let remedy = "Write a host such as app.example.com or *.example.com."
        let host = text.lowercased()
        if host == "*" { throw Complaint("\"*\" would take every host", remedy) }
        if host.contains("/") { throw Complaint("\(quoted(text)) is a URL or path, not a host", remedy) }
        if host.hasSuffix(".") { throw Complaint("\(quoted(text)) ends with a dot", remedy) }
        let name = host.hasPrefix("*.") ? String(host.dropFirst(2)) : host
        if name.contains("*") { throw Complaint("\(quoted(text)) has a * that is not its first label", remedy) }
        if isIPv4(host) { return host }
        if let canonical = canonicalIPv6(host) { return canonical }
        if host.contains(":") { throw Complaint("\(quoted(text)) has a port", remedy) }
        if !host.utf8.allSatisfy({ $0 < 0x80 }) {
            throw Complaint("\(quoted(text)) is not ASCII", "Write an international name in its xn-- form.")
        }
        guard isName(name) else { throw Complaint("\(quoted(text)) is not a host name", remedy) }
        return host
    }

    static func isLetterOrDigit(_ byte: UInt8) -> Bool {
        switch byte {
        case 0x30...0x39, 0x41...0x5A, 0x61...0x7A: true
        default: false
        }
    }
}
