/// Where a listener binds: an address or host name and a port.
package struct ListenAddress: Sendable, Hashable, CustomStringConvertible {
    /// Without brackets. `0.0.0.0` if none was written.
    package var host: String
    /// 0 lets the system choose.
    package var port: Int

    package init(host: String, port: Int) {
        self.host = host
        self.port = port
    }

    package var description: String { HostPort(host: host, port: port).description }

    /// `0.0.0.0:8443`, `:8443`, `[::1]:8443`, `localhost:8443`.
    package static func parse(_ text: String) throws(Complaint) -> ListenAddress {
        let remedy = "Write HOST:PORT, as in 0.0.0.0:8443, :8443 or [::]:8443."
        if text.hasPrefix(":"), !text.hasPrefix("::") {
            return ListenAddress(
                host: "0.0.0.0",
                port: try HostPort.parsePort(text.dropFirst(), from: 0, remedy: remedy)
            )
        }
        let address = try HostPort.parse(text, defaultPort: nil, lowestPort: 0, remedy: remedy)
        return ListenAddress(host: address.host, port: address.port)
    }

    /// Whether binding both on one protocol must fail: the same port, and the same address or a wildcard.
    package func collides(with other: ListenAddress) -> Bool {
        guard port == other.port, port != 0 else { return false }
        let wildcards = ["0.0.0.0", "::"]
        return host == other.host || wildcards.contains(host) || wildcards.contains(other.host)
    }
}
