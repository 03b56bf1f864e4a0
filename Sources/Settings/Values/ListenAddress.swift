package import Formats

/// The address that a listener binds to: an IP address or host name, and a port.
package struct ListenAddress: Sendable, Hashable, CustomStringConvertible {
    /// The host, without brackets. `0.0.0.0` if the text had none.
    package var host: String
    /// The port; 0 lets the system choose one.
    package var port: Int

    package init(host: String, port: Int) {
        self.host = host
        self.port = port
    }

    package var description: String { HostPort(host: host, port: port).description }

    /// Parses `0.0.0.0:8443`, `:8443`, `[::1]:8443` or `localhost:8443`.
    package static func parse(_ text: String) throws(FormatError) -> ListenAddress {
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

    /// Whether both cannot be bound for the same protocol: they have the same port, and the same address or a wildcard.
    package func collides(with other: ListenAddress) -> Bool {
        guard port == other.port, port != 0 else { return false }
        let wildcards = ["0.0.0.0", "::"]
        return host == other.host || wildcards.contains(host) || wildcards.contains(other.host)
    }
}
