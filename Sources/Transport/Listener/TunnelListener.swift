package import DTLS
package import NIOCore
import NIOPosix
import Synchronization

/// The gateway's end: one UDP socket for each loop on one port (`SO_REUSEPORT`), and the sessions that land on them.
///
/// A session lives on the loop whose socket received its first datagram. All sockets are bound before any is read and
/// the group never changes, because the kernel spreads peers over it by hash. Close it before letting go of it.
package final class TunnelListener: Sendable {
    package let localAddress: SocketAddress
    /// What each loop counts, in the order of the loops.
    package let counters: [TransportCounters]
    private let limits: SessionLimits
    private let sockets: [NIOLoopBound<ListenerSocket>]
    private let loops: [any EventLoop]

    private init(
        localAddress: SocketAddress,
        counters: [TransportCounters],
        limits: SessionLimits,
        sockets: [NIOLoopBound<ListenerSocket>],
        loops: [any EventLoop]
    ) {
        self.localAddress = localAddress
        self.counters = counters
        self.limits = limits
        self.sockets = sockets
        self.loops = loops
    }

    /// Binds one socket for each of `loops` and starts to read.
    ///
    /// - Parameters:
    ///   - context: the certificate of new sessions; asked at most once a second, on a loop: it must not wait.
    ///   - accept: called on the session's loop when it is established; its handler hears of nothing before.
    package static func bind(
        host: String,
        port: Int,
        loops: [any EventLoop],
        configuration: TunnelListenerConfiguration,
        context: @escaping @Sendable () -> DTLSContext,
        accept: @escaping @Sendable (TunnelSession) -> any SessionHandler
    ) async throws -> TunnelListener {
        precondition(!loops.isEmpty, "a listener needs a loop")
        var address = try await Self.resolve(host: host, port: port)
        var sockets: [UnsafeTransfer<UDPSocket>] = []
        for _ in loops {
            let socket = try UDPSocket.bound(to: address, sharesPort: true, buffers: configuration.buffers)
            address = socket.localAddress
            sockets.append(UnsafeTransfer(socket))
        }
        let limits = SessionLimits(
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
                    limits: limits,
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
            localAddress: address,
            counters: counters,
            limits: limits,
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

    /// Ends every session with a word to its peer, and frees the port.
    package func close() async {
        for (loop, socket) in zip(loops, sockets) {
            // Fails only when the loop is already gone, and its sockets with it.
            try? await loop.submit { socket.value.shutDown() }.get()
        }
    }

    /// Sessions under way to proving themselves, on all loops.
    package var halfOpen: Int { limits.current }

    /// `host` is an address or a name; names are looked up off the loops.
    private static func resolve(host: String, port: Int) async throws(TransportError) -> SocketAddress {
        if let address = try? SocketAddress(ipAddress: host, port: port) { return address }
        do {
            return try await NIOThreadPool.singleton.runIfActive {
                try SocketAddress.makeAddressResolvingHost(host, port: port)
            }
        } catch {
            throw TransportError(code: .unknownHost, operation: "look up \(host)")
        }
    }
}

/// Limits and times of a listener and of the sessions that it accepts.
package struct TunnelListenerConfiguration: Sendable {
    package var session = TunnelSessionConfiguration()
    package var halfOpenTotal = SessionLimits.halfOpenInAll
    package var halfOpenPerAddress = SessionLimits.halfOpenPerAddress
    package var sessionsInAll = SessionLimits.authenticatedInAll
    package var sessionsPerAddress = SessionLimits.authenticatedPerAddress
    package var buffers = UDPSocket.BufferSizes()
    /// Told, on the session's loop, of each session that ends before it is established.
    package var handshakeFailed: (@Sendable (SocketAddress, SessionCloseReason) -> Void)?

    package init() {
        session.authenticationTimeout = .seconds(5)
    }
}

/// Hands a value that nobody else uses to its loop.
struct UnsafeTransfer<Value>: @unchecked Sendable {
    let value: Value

    init(_ value: Value) { self.value = value }
}
