import Cluster
import DTLS
import FoundationEssentials
import Logging
import NIOCore
import NIOPosix
import Observability
import Settings
import Synchronization
import Transport
import Tunnel

/// The public listeners.
struct GatewayListeners: Sendable {
    var https: EdgeListener
    var http: EdgeListener
    var tunnels: TunnelListener
    /// The address for other replicas, or `nil` if there are none.
    var mesh: SocketAddress?

    /// Binds all of them. No port can be shared, so a second process fails here.
    static func bind(
        _ assembly: GatewayAssembly,
        _ loops: [any EventLoop],
        _ group: MultiThreadedEventLoopGroup,
        _ states: EdgeLoopStates
    ) async throws -> GatewayListeners {
        let configuration = assembly.configuration
        func edge(_ kind: ListenerKind, _ address: ListenAddress) async throws -> EdgeListener {
            try await ListenerStart("\(kind.rawValue)_listen", assembly.logger).run(address) { address in
                try await EdgeListener.bind(
                    kind,
                    host: address.host,
                    port: address.port,
                    group: group,
                    states: states,
                    identities: kind == .https ? assembly.identities : nil,
                    edge: assembly.edge
                )
            }
        }
        /// The same port number for both unless configured otherwise, also if the system has chosen it. It chooses one
        /// that is free for TCP, so another process may have it for UDP.
        func pair(_ attempts: Int) async throws -> (EdgeListener, TunnelListener) {
            let https = try await edge(.https, configuration.httpsListen)
            let port = https.localAddress.port ?? configuration.httpsListen.port
            assembly.edge.httpsPort.store(port, ordering: .relaxed)
            var dtls = configuration.dtlsListen
            if dtls.port == configuration.httpsListen.port { dtls.port = port }
            do {
                return (https, try await Self.tunnels(assembly, dtls, loops))
            } catch {
                await https.close()
                guard configuration.dtlsListen.port == 0, attempts > 1 else { throw error }
                return try await pair(attempts - 1)
            }
        }
        let (https, tunnels) = try await pair(16)
        let http = try await edge(.http, configuration.httpListen)
        return GatewayListeners(https: https, http: http, tunnels: tunnels, mesh: try await mesh(assembly, loops))
    }

    /// Binds the listener for other replicas, and publishes its address. By default any port will do, since they learn
    /// it from the store.
    private static func mesh(_ assembly: GatewayAssembly, _ loops: [any EventLoop]) async throws -> SocketAddress? {
        guard let mesh = assembly.mesh else { return nil }
        let configuration = assembly.configuration
        func bind(_ address: ListenAddress) async throws -> SocketAddress {
            try await ListenerStart("mesh_listen", isUDP: true, assembly.logger).run(address) { address in
                try await mesh.listen(host: address.host, port: address.port, loops: loops)
            }
        }
        let bound: SocketAddress
        do {
            bound = try await bind(configuration.meshListen)
        } catch  where !configuration.isMeshListenExplicit {
            bound = try await bind(ListenAddress(host: configuration.meshListen.host, port: 0))
        }
        let address = MeshAddress.advertised(configuration, bound: bound, ProcessInfo.processInfo.environment)
        assembly.presence.publish(mesh: address)
        return bound
    }

    private static func tunnels(
        _ assembly: GatewayAssembly,
        _ address: ListenAddress,
        _ loops: [any EventLoop]
    ) async throws -> TunnelListener {
        let (manager, identities, logger) = (assembly.sessions, assembly.identities, assembly.logger)
        var settings = TunnelListenerConfiguration()
        // Agents open no streams.
        settings.session.tunnel.maxStreams = 0
        settings.session.applicationProtocols = [TunnelProtocol.alpn]
        let nextWarning = Mutex(NIODeadline.uptimeNanoseconds(0))
        settings.handshakeFailed = { address, reason in
            // The peer only learns that it was refused, for example because it does not support the certificate's key.
            let isUnexplained =
                if case .handshakeFailed(let error?) = reason { error.code == .noCommonParameters } else { false }
            let isWarning =
                isUnexplained
                && nextWarning.withLock { next in
                    let now = NIODeadline.now()
                    guard now >= next else { return false }
                    next = now + .minutes(1)
                    return true
                }
            logger.log(
                level: isWarning ? .warning : .debug,
                "DTLS handshake failed",
                metadata: ["remote": "\(address.text)", "reason": "\(reason)"]
            )
        }
        return try await ListenerStart("dtls_listen", isUDP: true, logger).run(address) { [settings] address in
            try await TunnelListener.bind(
                host: address.host,
                port: address.port,
                loops: loops,
                configuration: settings,
                context: { identities.dtls },
                accept: { _ in AgentSession(manager: manager) }
            )
        }
    }
}
