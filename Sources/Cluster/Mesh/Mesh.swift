import HopProtocol
package import Logging
package import NIOCore
import NIOPosix
package import Store
import Synchronization
package import Transport
import Tunnel

/// The sessions of this replica with all others: one each, over which either sends requests for attachments of the
/// other.
///
/// Peers are the live replicas of the directory that have published an address. The one with the smaller incarnation
/// dials, and the other one too if it has waited for two seconds; of two sessions the one that the smaller has dialed
/// stays. A session whose peer is silent closes after ``idleTimeout``, and is dialed again.
package final class Mesh: Sendable {
    static let keepAlive = TimeAmount.milliseconds(500)
    private static let idleTimeout = TimeAmount.seconds(5)
    private static let interval = Duration.milliseconds(200)
    /// The time that the replica with the greater incarnation waits for the call of the other.
    private static let callPatience = TimeAmount.seconds(2)
    /// The pause after a session that failed.
    private static let redialPause = TimeAmount.seconds(1)

    private struct Peer {
        var session: TunnelSession?
        /// The replica that has dialed the session.
        var dialer: Incarnation?
        var isDialing = false
        /// The time from which this replica dials.
        var nextDial: NIODeadline
    }

    private struct State {
        var peers: [Incarnation: Peer] = [:]
        var contexts: (incarnation: Incarnation, keyring: ClusterKeyring, value: MeshIdentity.Contexts)?
        var listener: TunnelListener?
        var loops: [any EventLoop] = []
        var nextLoop = 0
        var isClosed = false
    }

    let cluster: String
    private let shared: SharedStore
    private let presence: ReplicaPresence
    private let sessions: ClusterSessions
    private let logger: Logger
    private let onStream: @Sendable (TunnelStream) -> Void
    private let state = Mutex(State())
    private let refusals = Atomic<UInt64>(0)

    /// - Parameters:
    ///   - sessions: The directory, whose rows lead to the sessions.
    ///   - onStream: Receives the streams that other replicas open, each on the loop of its session.
    package init(
        shared: SharedStore,
        presence: ReplicaPresence,
        sessions: ClusterSessions,
        logger: Logger,
        onStream: @escaping @Sendable (TunnelStream) -> Void
    ) {
        cluster = shared.cluster.id
        self.shared = shared
        self.presence = presence
        self.sessions = sessions
        self.logger = logger
        self.onStream = onStream
    }

    package var incarnation: Incarnation { presence.incarnation }

    /// The number of replicas that this one has a session with, and of calls that were refused since the start.
    package var counts: (connected: Int, refused: UInt64) {
        let connected = state.withLock { $0.peers.values.count { $0.session != nil } }
        return (connected, refusals.load(ordering: .relaxed))
    }

    // MARK: Life

    /// Binds the address for the sessions of others, one socket for each loop.
    ///
    /// - Returns: The address that was bound.
    package func listen(host: String, port: Int, loops: [any EventLoop]) async throws -> SocketAddress {
        let first = try contexts()
        let listener = try await TunnelListener.bind(
            host: host,
            port: port,
            loops: loops,
            configuration: Self.configuration(TunnelListenerConfiguration()) { configuration, session in
                configuration.session = session
                // As many as replicas may start at the same time.
                (configuration.halfOpenTotal, configuration.halfOpenPerAddress) = (64, 32)
                configuration.handshakeFailed = { [weak self] address, reason in
                    // Any host may call, so one line for each would be too many.
                    self?.refused("\(reason)", address, level: .debug)
                }
            },
            context: { [weak self] in (try? self?.contexts().server) ?? first.server },
            accept: { [self] _ in MeshSession(mesh: self) }
        )
        state.withLock { ($0.listener, $0.loops) = (listener, loops) }
        return listener.localAddress
    }

    /// Keeps a session with each live replica of the directory, until the task is cancelled.
    ///
    /// - Parameter replicas: Returns the replicas, this one included.
    package func run(_ replicas: @Sendable () -> [ReplicaStatus]) async {
        var own = incarnation
        while !Task.isCancelled {
            if own != incarnation {
                // The others have declared this process dead, and it is a new replica to them.
                own = incarnation
                closeSessions("the replica continues as another one")
            }
            // Side by side, because the name of one may take long to be resolved.
            for (replica, address) in due(among: replicas(), now: .now()) { Task { await dial(replica, address) } }
            try? await Task.sleep(for: Self.interval)
        }
    }

    package func close() async {
        let listener = state.withLock { state in
            defer { (state.isClosed, state.listener) = (true, nil) }
            return state.listener
        }
        closeSessions("the replica stops")
        await listener?.close()
    }

    private func closeSessions(_ reason: String) {
        for session in state.withLock({ $0.peers.values.compactMap(\.session) }) {
            session.close(.noError, reason: reason)
        }
    }

    private static func configuration<Configuration>(
        _ start: Configuration,
        _ change: (inout Configuration, TunnelSessionConfiguration) -> Void
    ) -> Configuration {
        var session = TunnelSessionConfiguration()
        session.applicationProtocols = [TunnelProtocol.meshALPN]
        session.authenticationTimeout = .seconds(5)
        session.tunnel.idleTimeout = idleTimeout
        var configuration = start
        change(&configuration, session)
        return configuration
    }

    /// The contexts of this incarnation and of the present keys.
    private func contexts() throws -> MeshIdentity.Contexts {
        let (incarnation, keyring) = (presence.incarnation, shared.keyring)
        let known = state.withLock { $0.contexts }
        if let known, known.incarnation == incarnation, known.keyring == keyring { return known.value }
        let new = try MeshIdentity.contexts(of: incarnation, keyring)
        state.withLock { $0.contexts = (incarnation, keyring, new) }
        return new
    }

    // MARK: Dialing

    /// The replicas to dial now. Forgets those that are gone.
    private func due(among replicas: [ReplicaStatus], now: NIODeadline) -> [(Incarnation, String)] {
        let own = presence.incarnation
        guard presence.hasJoined else { return [] }
        let live = replicas.filter { $0.incarnation != own && $0.isLive(now: now) && $0.info?.mesh != nil }
        return state.withLock { state in
            let names = Set(live.map(\.incarnation))
            for (name, peer) in state.peers where peer.session == nil && !peer.isDialing && !names.contains(name) {
                state.peers[name] = nil
            }
            return live.compactMap { replica in
                let name = replica.incarnation
                let wait = own < name ? TimeAmount.zero : Self.callPatience
                let peer = state.peers[name] ?? Peer(nextDial: now + wait)
                state.peers[name] = peer
                guard peer.session == nil, !peer.isDialing, now >= peer.nextDial, let address = replica.info?.mesh
                else {
                    return nil
                }
                state.peers[name]?.isDialing = true
                return (name, address)
            }
        }
    }

    private func dial(_ replica: Incarnation, _ address: String) async {
        do {
            guard let remote = try await Self.resolve(address) else {
                throw MeshAddressError(address: address)
            }
            let contexts = try contexts()
            let loop = state.withLock { state -> (any EventLoop)? in
                guard !state.isClosed, !state.loops.isEmpty else { return nil }
                state.nextLoop = (state.nextLoop + 1) % state.loops.count
                return state.loops[state.nextLoop]
            }
            guard let loop else { return }
            let configuration = Self.configuration(TunnelDialerConfiguration()) { $0.session = $1 }
            try await loop.submit { [self] in
                _ = try TunnelDialer.dial(
                    to: remote,
                    serverName: MeshIdentity.serverName,
                    context: contexts.client,
                    configuration: configuration,
                    on: loop,
                    handler: MeshSession(mesh: self, dialed: replica)
                )
            }.get()
        } catch {
            failed(replica, "\(error)")
        }
    }

    private static func resolve(_ address: String) async throws -> SocketAddress? {
        guard let colon = address.lastIndex(of: ":"), let number = UInt16(address[address.index(after: colon)...])
        else {
            return nil
        }
        let port = Int(number)
        var host = String(address[..<colon])
        if host.hasPrefix("["), host.hasSuffix("]") { host = String(host.dropFirst().dropLast()) }
        if let literal = try? SocketAddress(ipAddress: host, port: port) { return literal }
        let name = host
        return try await NIOThreadPool.singleton.runIfActive {
            try SocketAddress.makeAddressResolvingHost(name, port: port)
        }
    }

    private struct MeshAddressError: Error, CustomStringConvertible {
        let address: String
        var description: String { "\(address) is not HOST:PORT" }
    }

    private func failed(_ replica: Incarnation, _ reason: String) {
        state.withLock { state in
            state.peers[replica]?.isDialing = false
            state.peers[replica]?.nextDial = .now() + Self.redialPause
        }
        logger.debug("replica not reached", metadata: ["incarnation": "\(replica)", "reason": "\(reason)"])
    }

    // MARK: Sessions

    func accept(_ stream: TunnelStream, from peer: Incarnation) { onStream(stream) }

    /// Counts a session that was refused.
    func refused(_ reason: String, _ address: SocketAddress?, level: Logger.Level = .warning) {
        refusals.wrappingAdd(1, ordering: .relaxed)
        let remote = address.map { "\($0)" } ?? ""
        logger.log(level: level, "mesh session refused", metadata: ["remote": "\(remote)", "reason": "\(reason)"])
    }

    /// Uses a session, unless there is one that the smaller incarnation has dialed and this one was not.
    func register(_ session: TunnelSession, of peer: Incarnation, dialer: Incarnation) {
        let smaller = min(peer, presence.incarnation)
        let superfluous = state.withLock { state -> TunnelSession? in
            var entry = state.peers[peer] ?? Peer(nextDial: .now())
            if dialer != peer { entry.isDialing = false }
            defer { state.peers[peer] = entry }
            if entry.session != nil, entry.dialer == smaller, dialer != smaller { return session }
            let previous = entry.session
            (entry.session, entry.dialer) = (session, dialer)
            sessions.replica(peer).use(session)
            return previous
        }
        if superfluous !== session {
            logger.info(
                "replica connected",
                metadata: ["incarnation": "\(peer)", "remote": "\(session.remoteAddress)"]
            )
        }
        superfluous?.close(.noError, reason: "there is another session of these replicas")
    }

    /// Forgets a session that has closed.
    ///
    /// - Parameters:
    ///   - peer: The replica at the other end, if it has sent PEER.
    ///   - dialed: The replica that was dialed, if this one has dialed it.
    func closed(_ session: TunnelSession, of peer: Incarnation?, dialed: Incarnation?, reason: SessionCloseReason) {
        if let dialed, peer == nil { failed(dialed, "\(reason)") }
        guard let peer else { return }
        let wasInUse = state.withLock { state -> Bool in
            guard state.peers[peer]?.session === session else { return false }
            state.peers[peer]?.session = nil
            state.peers[peer]?.dialer = nil
            state.peers[peer]?.nextDial =
                .now() + (presence.incarnation < peer ? Self.redialPause : Self.callPatience)
            sessions.replica(peer).use(nil)
            return true
        }
        guard wasInUse else { return }
        logger.info("replica disconnected", metadata: ["incarnation": "\(peer)", "reason": "\(reason)"])
    }
}
