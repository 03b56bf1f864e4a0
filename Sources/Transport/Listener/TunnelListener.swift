package import DTLS
package import NIOCore
import NIOPosix
import Synchronization

/// The gateway's end of tunnels: one UDP socket for each loop on one port, which no other process can bind, and the
/// sessions that arrive on them.
///
/// A session lives on the loop whose socket received its first datagram. All sockets are bound before any is read and
/// the group never changes, because the kernel distributes peers over it by hash. Call ``close()`` before releasing the
/// listener.
package final class TunnelListener: Sendable {
    package let localAddress: SocketAddress
    /// The counters of each loop, in the order of the loops.
    package let counters: [TransportCounters]
    private let halfOpenSessions: HalfOpenSessions
    private let sockets: [NIOLoopBound<ListenerSocket>]
    private let loops: [any EventLoop]

    private init(
        localAddress: SocketAddress,
        counters: [TransportCounters],
        halfOpenSessions: HalfOpenSessions,
        sockets: [NIOLoopBound<ListenerSocket>],
        loops: [any EventLoop]
    ) {
        self.localAddress = localAddress
        self.counters = counters
        self.halfOpenSessions = halfOpenSessions
        self.sockets = sockets
        self.loops = loops
    }

    /// Binds one socket for each of `loops` and starts to read.
    ///
    /// - Parameters:
    ///   - host: An address or a name. Names are resolved off the loops.
    ///   - port: The port, or 0 to let the kernel choose one.
    ///   - loops: The loops, one socket each.
    ///   - configuration: Limits, times and buffer sizes.
    ///   - context: Returns the DTLS context of new sessions. Called at most once per second, on a loop: it must not
    ///     block.
    ///   - accept: Returns the handler of an established session. Called on the session's loop; the handler is not
    ///     called for anything earlier.
    /// - Throws: `TransportError` if a name cannot be resolved or a socket cannot be created.
    package static func bind(
        host: String,
        port: Int,
        loops: [any EventLoop],
        configuration: TunnelListenerConfiguration,
        context: @escaping @Sendable () -> DTLSContext,
        accept: @escaping @Sendable (TunnelSession) -> any SessionHandler
    ) async throws -> TunnelListener {
        precondition(!loops.isEmpty, "a listener needs a loop")
        let sockets = try UDPSocket.group(
            of: loops.count,
            boundTo: try await Self.resolve(host: host, port: port),
            buffers: configuration.buffers
        ).map { UnsafeTransfer($0) }
        let halfOpenSessions = HalfOpenSessions(
            total: configuration.halfOpenTotal,
            perAddress: configuration.halfOpenPerAddress
        )
        let sessionLimits = SessionLimits(
            total: configuration.sessionsInAll,
            perAddress: configuration.sessionsPerAddress
        )
        let secret = DTLSCookieSecret()
        var drivers: [NIOLoopBound<ListenerSocket>] = []
        var counters: [TransportCounters] = []
        for (loop, socket) in zip(loops, sockets) {
            let (driver, count) = try await loop.submit {
                let driver = ListenerSocket(
                    context: LoopContext.of(loop),
                    socket: socket.value,
                    settings: configuration,
                    halfOpen: halfOpenSessions,
                    sessionLimits: sessionLimits,
                    secret: secret,
                    dtlsContext: context,
                    accept: accept
                )
                return (NIOLoopBound(driver, eventLoop: loop), driver.counters)
            }.get()
            drivers.append(driver)
            counters.append(count)
        }
        let listener = TunnelListener(
            localAddress: sockets[0].value.localAddress,
            counters: counters,
            halfOpenSessions: halfOpenSessions,
            sockets: drivers,
            loops: loops
        )
        do {
            for (loop, driver) in zip(loops, drivers) {
                try await loop.flatSubmit { driver.value.open() }.get()
            }
        } catch {
            await listener.close()
            throw error
        }
        return listener
    }

    /// Closes every session with CONNECTION_CLOSE, and frees the port.
    package func close() async {
        for (loop, socket) in zip(loops, sockets) {
            // Fails only when the loop is shut down already, and its sockets with it.
            try? await loop.submit { socket.value.shutDown() }.get()
        }
    }

    /// The number of half-open sessions on all loops.
    package var halfOpen: Int { halfOpenSessions.current }

    /// Resolves `host`, an address or a name. Names are resolved off the loops.
    private static func resolve(host: String, port: Int) async throws(TransportError) -> SocketAddress {
        if let address = try? SocketAddress(ipAddress: host, port: port) { return address }
        do {
            return try await NIOThreadPool.singleton.runIfActive {
                try SocketAddress.makeAddressResolvingHost(host, port: port)
            }
        } catch {
            throw TransportError(code: .unknownHost, operation: "\(host) cannot be resolved")
        }
    }
}

/// Limits and times of a listener and of the sessions that it accepts.
package struct TunnelListenerConfiguration: Sendable {
    package var session = TunnelSessionConfiguration()
    package var halfOpenTotal = HalfOpenSessions.inAll
    package var halfOpenPerAddress = HalfOpenSessions.perAddress
    package var sessionsInAll = SessionLimits.authenticatedInAll
    package var sessionsPerAddress = SessionLimits.authenticatedPerAddress
    package var buffers = UDPSocket.BufferSizes()
    /// Called on the session's loop for each session that closes before it is established.
    package var handshakeFailed: (@Sendable (SocketAddress, SessionCloseReason) -> Void)?

    package init() {
        session.authenticationTimeout = .seconds(5)
    }
}

/// Transfers a value that is used in one place only to its loop (as NIO's internal type of this name).
struct UnsafeTransfer<Value>: @unchecked Sendable {
    let value: Value

    init(_ value: Value) { self.value = value }
}
