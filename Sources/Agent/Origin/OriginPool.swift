import HopProtocol
import NIOCore
import NIOPosix
import Settings

/// The connections to one origin on one loop. Idle ones are taken last-in first-out, so that a quiet origin's surplus
/// grows old and is closed.
final class OriginPool {
    /// Idle connections that are kept.
    static let maximumIdle = 256
    /// How long one is kept idle.
    static let idleTime = TimeAmount.seconds(30)
    /// A request that must not run twice takes only a connection that was in use this short a time ago: an origin's
    /// idle timeout could close an older one under it.
    static let freshEnough = TimeAmount.seconds(2)
    static let connectTimeout = TimeAmount.seconds(5)
    /// Of the kernel, which doubles it. When an origin ends its side, everything that the kernel holds is read at once,
    /// whether the peer takes it or not: this bounds it, where the kernel by itself would grow to megabytes. With half of
    /// it downloads over loopback were up to a third slower.
    static let receiveBuffer = 512 << 10

    let service: ServiceDefinition
    let metrics: ServiceMetrics
    private unowned let owner: OriginLoop
    private var idle: [OriginConnection] = []
    private let target: OriginAddress

    init(service: ServiceDefinition, owner: OriginLoop, metrics: ServiceMetrics) {
        self.service = service
        self.owner = owner
        self.metrics = metrics
        target = OriginAddress(service.target)
    }

    /// An idle connection, if there is one that may be used.
    func takeIdle(isIdempotent: Bool, now: NIODeadline) -> OriginConnection? {
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

    /// Opens a connection; the exchange hears `connected` or `connectFailed`, later.
    func connect(for exchange: OriginExchange) {
        let addresses = target.addresses(on: owner.loop).assumeIsolated()
        addresses.whenComplete { result in
            switch result {
            case .success(let list) where !list.isEmpty: self.connect(list[...], for: exchange)
            case .success: exchange.connectFailed("\(self.service.target.host) has no address")
            case .failure(let error): exchange.connectFailed("\(error)")
            }
        }
    }

    private func connect(_ addresses: ArraySlice<SocketAddress>, for exchange: OriginExchange) {
        guard exchange.wantsConnection else { return }
        ClientBootstrap(group: owner.loop)
            .connectTimeout(Self.connectTimeout)
            .channelOption(.socketOption(.tcp_nodelay), value: 1)
            .channelOption(.socketOption(.so_rcvbuf), value: Self.receiveBuffer)
            .channelOption(.allowRemoteHalfClosure, value: true)
            .channelOption(.autoRead, value: false)
            .connect(to: addresses.first!)
            .assumeIsolated()
            .whenComplete { result in
                switch result {
                case .success(let channel): self.connected(channel, for: exchange)
                case .failure(let error):
                    let rest = addresses.dropFirst()
                    if rest.isEmpty {
                        self.target.forget()
                        exchange.connectFailed("\(error)")
                    } else {
                        self.connect(rest, for: exchange)
                    }
                }
            }
    }

    private func connected(_ channel: any Channel, for exchange: OriginExchange) {
        let connection = OriginConnection(pool: self)
        do {
            try channel.pipeline.syncOperations.addHandler(connection)
        } catch {
            channel.close(promise: nil)
            exchange.connectFailed("\(error)")
            return
        }
        if exchange.wantsConnection {
            exchange.connected(connection)
        } else {
            // Opened in vain; the next request will have it.
            put(connection, now: .now())
        }
    }

    /// A connection that may serve another request.
    func put(_ connection: OriginConnection, now: NIODeadline) {
        guard connection.isUsable, idle.count < Self.maximumIdle, !owner.isClosing else {
            connection.close()
            return
        }
        idle.append(connection)
        connection.lieIdle(now: now)
        owner.wake(by: now + Self.idleTime)
    }

    func remove(_ connection: OriginConnection) {
        if let index = idle.lastIndex(where: { $0 === connection }) { idle.remove(at: index) }
    }

    /// Closes what lay idle too long; answers when the next one will have.
    func closeOld(now: NIODeadline) -> NIODeadline? {
        let kept = idle.firstIndex { now - $0.idleSince < Self.idleTime } ?? idle.endIndex
        let old = idle[..<kept]
        idle.removeSubrange(..<kept)
        for connection in old { connection.close() }
        return idle.first.map { $0.idleSince + Self.idleTime }
    }

    func closeAll() {
        let all = idle
        idle = []
        for connection in all { connection.close() }
    }
}
