import NIOCore
import NIOPosix
import Settings

/// The address that other replicas dial.
enum MeshAddress {
    /// Returns `host:port`: the configured address, else POD_IP, else the address of the listener, or, if that is a
    /// wildcard, one of this machine's: not of the loopback interface if there is another one, IPv4 first.
    ///
    /// - Parameter bound: The address of the listener.
    static func advertised(
        _ configuration: GatewayConfiguration,
        bound: SocketAddress,
        _ environment: [String: String]
    ) -> String {
        let port = bound.port ?? configuration.meshListen.port
        if let address = configuration.meshAdvertise { return "\(address)" }
        let listening = bound.ipAddress ?? configuration.meshListen.host
        if listening != "0.0.0.0", listening != "::" { return text(listening, port) }
        if let pod = environment["POD_IP"], (try? SocketAddress(ipAddress: pod, port: port)) != nil {
            return text(pod, port)
        }
        return text(ownAddress ?? "127.0.0.1", port)
    }

    private static func text(_ host: String, _ port: Int) -> String {
        host.contains(":") ? "[\(host)]:\(port)" : "\(host):\(port)"
    }

    private static var ownAddress: String? {
        let addresses = ((try? System.enumerateDevices()) ?? []).compactMap { device -> SocketAddress? in
            guard let address = device.address, let text = address.ipAddress else { return nil }
            let isLocal = text.hasPrefix("127.") || text == "::1" || text.hasPrefix("fe80:")
            return isLocal ? nil : address
        }
        let first = addresses.first { $0.protocol == .inet } ?? addresses.first { $0.protocol == .inet6 }
        return first?.ipAddress
    }
}
