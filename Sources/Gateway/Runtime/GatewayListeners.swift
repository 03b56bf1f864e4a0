import DTLS
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

    /// Binds all three. No port can be shared, so a second process fails here.
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
        let https = try await edge(.https, configuration.httpsListen)
        let port = https.localAddress.port ?? configuration.httpsListen.port
        assembly.edge.httpsPort.store(port, ordering: .relaxed)
        let dtls = configuration.dtlsListen
        // The same port number as HTTPS unless configured otherwise, also if the system chose it.
        let dtlsPort = dtls.port == configuration.httpsListen.port ? port : dtls.port
        let tunnels = try await tunnels(assembly, ListenAddress(host: dtls.host, port: dtlsPort), loops)
        return GatewayListeners(https: https, http: try await edge(.http, configuration.httpListen), tunnels: tunnels)
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
