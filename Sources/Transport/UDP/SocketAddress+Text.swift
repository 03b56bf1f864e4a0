package import NIOCore

extension SocketAddress {
    /// The address as logs, status and settings show it: `127.0.0.1:8443` or `[::1]:8443`.
    package var text: String {
        guard let host = ipAddress, let port else { return "\(self)" }
        return host.contains(":") ? "[\(host)]:\(port)" : "\(host):\(port)"
    }

    /// The IPv4 address if this is one that has arrived at an IPv6 socket (`::ffff:192.0.2.1`), else this address.
    package var unmapped: SocketAddress {
        guard case .v6(let v6) = self, let port else { return self }
        // After the address family, the port and the flow.
        let bytes = withUnsafeBytes(of: v6.address) { Array($0[8..<24]) }
        guard bytes.starts(with: [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xFF, 0xFF]) else { return self }
        return (try? SocketAddress(packedIPAddress: ByteBuffer(bytes: bytes[12...]), port: port)) ?? self
    }
}
