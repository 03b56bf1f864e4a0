package import Formats
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
        host == "localhost" || host == "::1" || (IPAddressText.isIPv4(host) && host.hasPrefix("127."))
    }

    /// `name`, `name:port`, `192.0.2.1:port`, `[2001:db8::1]`, `[2001:db8::1]:port`.
    ///
    /// - Parameter defaultPort: Used if no port is written; `nil` makes the port required.
    package static func parse(
        _ text: String,
        defaultPort: Int?,
        lowestPort: Int = 1,
        remedy: String = "Write HOST:PORT, as in 192.0.2.1:8443 or [2001:db8::1]:8443."
    ) throws(FormatError) -> HostPort {
        if text.contains("://") || text.contains("/") {
            throw FormatError("\(quoted(text)) is a URL or path, not a host and port", remedy)
        }
        var host = text[...]
        var port: Substring?
        if text.hasPrefix("[") {
            guard let end = text.firstIndex(of: "]") else {
                throw FormatError("\(quoted(text)) has no closing bracket", remedy)
            }
            let inner = String(text[text.index(after: text.startIndex)..<end])
            guard let canonical = IPAddressText.canonicalIPv6(inner) else {
                throw FormatError("\(quoted(text)) has no IPv6 address in its brackets", remedy)
            }
            host = canonical[...]
            let rest = text[text.index(after: end)...]
            if rest.hasPrefix(":") {
                port = rest.dropFirst()
            } else if !rest.isEmpty {
                throw FormatError("\(quoted(text)) has text after its bracket", remedy)
            }
        } else {
            let parts = text.split(separator: ":", maxSplits: 2, omittingEmptySubsequences: false)
            if parts.count > 2 { throw FormatError("\(quoted(text)) needs brackets around an IPv6 address", remedy) }
            host = parts[0]
            port = parts.count == 2 ? parts[1] : nil
            guard IPAddressText.isIPv4(String(host)) || DNSName.isHostName(host) else {
                throw FormatError("\(quoted(text)) does not begin with a host name or address", remedy)
            }
        }
        let name = host.lowercased()
        if let port { return HostPort(host: name, port: try parsePort(port, from: lowestPort, remedy: remedy)) }
        guard let defaultPort else { throw FormatError("\(quoted(text)) has no port", remedy) }
        return HostPort(host: name, port: defaultPort)
    }

    static func parsePort(_ text: Substring, from lowest: Int, remedy: String) throws(FormatError) -> Int {
        guard !text.isEmpty, text.utf8.allSatisfy({ (0x30...0x39).contains($0) }), let port = Int(text),
            (lowest...65_535).contains(port)
        else { throw FormatError("port \(quoted(String(text))) is not a number from \(lowest) to 65535", remedy) }
        return port
    }
}
