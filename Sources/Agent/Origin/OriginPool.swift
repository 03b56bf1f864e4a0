import HopProtocol
import NIOCore
import NIOPosix
import Observability
import Settings

/// The connections to one origin on one event loop. Idle connections are reused last-in first-out, so that the surplus
/// connections of a quiet origin age and are closed.
final class OriginPool {
    /// The number of idle connections that are kept.
    static let maximumIdle = 256
    /// The time for which a connection is kept idle.
    static let idleTime = TimeAmount.seconds(30)
    /// The age up to which a non-idempotent request reuses an idle connection: an origin's idle timeout could close an
    /// older one while the request is on its way.
    static let freshEnough = TimeAmount.seconds(2)
    static let connectTimeout = TimeAmount.seconds(5)
    /// The value of SO_RCVBUF, which the kernel doubles. When an origin ends its side, all bytes that the kernel holds
    /// are read at once, whether the peer accepts them or not. This bounds their number; the kernel's own choice would
    /// grow to megabytes. With half of it, downloads over loopback were up to a third slower.
    static let receiveBuffer = 512 << 10

    let service: ServiceDefinition
    let metrics: ServiceMetrics
    private let timer: DeadlineTimer
    /// The idle connections, the oldest first.
    private var idle: [OriginConnection] = []
    private let target: AddressCache
    private var isClosing = false

    /// Creates an empty pool on the event loop of `timer`.
    init(service: ServiceDefinition, timer: DeadlineTimer, metrics: ServiceMetrics) {
        self.service = service
        self.timer = timer
        self.metrics = metrics
        target = AddressCache(service.target)
    }

    private var loop: any EventLoop { timer.loop }

    /// Removes and returns an idle connection, or `nil` if there is none that the request may use.
    func popIdle(isIdempotent: Bool, now: NIODeadline) -> OriginConnection? {
        while let connection = idle.last {
            if connection.isUsable {
                // The others are older.
                if !isIdempotent, now - connection.idleSince > Self.freshEnough { return nil }
                idle.removeLast()
                return connection
            }
            idle.removeLast()
            connection.close()
        }
        return nil
    }

    /// Opens a connection for `delegate`, and reports the result to it later. The addresses of the origin are tried in
    /// turn.
    func connect(for delegate: any OriginConnectionDelegate) {
        let addresses = target.addresses(on: loop).assumeIsolated()
        addresses.whenComplete { result in
            switch result {
            case .success(let list) where !list.isEmpty: self.connect(list[...], for: delegate)
            case .success: delegate.connectFailed("\(self.service.target.host) has no address")
            case .failure(let error): delegate.connectFailed("\(SocketFailure(error))")
            }
        }
    }

    private func connect(_ addresses: ArraySlice<SocketAddress>, for delegate: any OriginConnectionDelegate) {
        guard delegate.wantsConnection else { return }
        ClientBootstrap(group: loop)
            .connectTimeout(Self.connectTimeout)
            .channelOption(.socketOption(.tcp_nodelay), value: 1)
            .channelOption(.socketOption(.so_rcvbuf), value: Self.receiveBuffer)
            .channelOption(.allowRemoteHalfClosure, value: true)
            .channelOption(.autoRead, value: false)
            .connect(to: addresses.first!)
            .assumeIsolated()
            .whenComplete { result in
                switch result {
                case .success(let channel): self.connected(channel, for: delegate)
                case .failure(let error):
                    let rest = addresses.dropFirst()
                    if rest.isEmpty {
                        self.target.invalidate()
                        delegate.connectFailed("\(SocketFailure(error))")
                    } else {
                        self.connect(rest, for: delegate)
                    }
                }
            }
    }

    private func connected(_ channel: any Channel, for delegate: any OriginConnectionDelegate) {
        let connection = OriginConnection(pool: self)
        do {
            try channel.pipeline.syncOperations.addHandler(connection)
        } catch {
            channel.close(promise: nil)
            delegate.connectFailed("\(SocketFailure(error))")
            return
        }
        if delegate.wantsConnection {
            delegate.connected(connection)
        } else {
            // The request has ended meanwhile; the next one uses the connection.
            insert(connection, now: .now())
        }
    }

    /// Keeps a connection for another request, or closes it if it is not usable or the pool is full or closed.
    func insert(_ connection: OriginConnection, now: NIODeadline) {
        guard connection.isUsable, idle.count < Self.maximumIdle, !isClosing else {
            connection.close()
            return
        }
        idle.append(connection)
        connection.becameIdle(now: now)
        timer.schedule(by: now + Self.idleTime)
    }

    /// Removes an idle connection that has closed.
    func remove(_ connection: OriginConnection) {
        if let index = idle.lastIndex(where: { $0 === connection }) { idle.remove(at: index) }
    }

    /// Closes the connections that have been idle for too long.
    ///
    /// - Returns: The time at which the next one will have been, or `nil` if none is idle.
    func closeExpired(now: NIODeadline) -> NIODeadline? {
        let kept = idle.firstIndex { now - $0.idleSince < Self.idleTime } ?? idle.endIndex
        let expired = idle[..<kept]
        idle.removeSubrange(..<kept)
        for connection in expired { connection.close() }
        return idle.first.map { $0.idleSince + Self.idleTime }
    }

    /// Closes all idle connections; no connection is kept any more.
    func close() {
        isClosing = true
        let all = idle
        idle = []
        for connection in all { connection.close() }
    }
}
