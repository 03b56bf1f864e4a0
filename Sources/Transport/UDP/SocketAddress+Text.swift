package import NIOCore

extension SocketAddress {
    /// The address as logs, status and settings show it: `127.0.0.1:8443` or `[::1]:8443`.
    package var text: String {
        guard let host = ipAddress, let port else { return "\(self)" }
        return host.contains(":") ? "[\(host)]:\(port)" : "\(host):\(port)"
    }
}
