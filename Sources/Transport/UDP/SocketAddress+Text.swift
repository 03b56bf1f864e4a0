package import NIOCore

extension SocketAddress {
    /// `127.0.0.1:8443` or `[::1]:8443`: how logs, status and settings write an address.
    package var text: String {
        guard let host = ipAddress, let port else { return "\(self)" }
        return host.contains(":") ? "[\(host)]:\(port)" : "\(host):\(port)"
    }
}
