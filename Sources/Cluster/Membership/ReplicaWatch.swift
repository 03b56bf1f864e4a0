package import Logging
package import NIOCore
package import Store
import Synchronization
import Transport

/// The replicas of the cluster as this process knows them. Archives replicas that have been dead for long.
package final class ReplicaWatch: Sendable {
    private static let interval = Duration.seconds(1)
    /// The age of a heartbeat above which its replica is not waited for. A heartbeat is due every second, so the
    /// replica has probably died, and a lease that it held has passed to another one.
    private static let heartbeatAgeLimit = TimeAmount.milliseconds(2_500)
    private static let waitInterval = TimeAmount.milliseconds(50)

    private struct State {
        /// The other replicas.
        var replicas: [Incarnation: ReplicaStatus] = [:]
        /// Whether the other replicas are known. Until then their absence means nothing.
        var hasListed = false
        var observation: MemberObservation?
    }

    private let shared: SharedStore
    private let presence: ReplicaPresence
    private let sessions: ClusterSessions
    private let logger: Logger
    private let state = Mutex(State())

    /// - Parameter sessions: The directory that receives the rows of the others.
    package init(shared: SharedStore, presence: ReplicaPresence, sessions: ClusterSessions, logger: Logger) {
        self.shared = shared
        self.presence = presence
        self.sessions = sessions
        self.logger = logger
    }

    /// The replicas, this process included.
    package var replicas: [ReplicaStatus] {
        let others = state.withLock { $0.replicas.values }
        let own = presence.status(movedAt: shared.store.diagnostics.lastHeartbeat)
        return (others.filter { $0.incarnation != own?.incarnation } + [own].compactMap(\.self))
            .sorted { $0.incarnation < $1.incarnation }
    }

    /// Observes the replicas until the task is cancelled. Called once.
    package func run() async {
        let observation = shared.store.observeMembers { [weak self] in self?.record($0) }
        state.withLock { $0.observation = observation }
        var detector = DeadReplicaDetector()
        var keyring = shared.keyring
        while (try? await Task.sleep(for: Self.interval)) != nil {
            let (store, now) = (shared.store.state, NIODeadline.now())
            let isRotated = shared.keyring != keyring
            keyring = shared.keyring
            let others = state.withLock { state in
                if isRotated { for name in state.replicas.keys { state.replicas[name]?.openInfo(with: keyring) } }
                return Array(state.replicas.values)
            }
            // A store that does not work says nothing about the others.
            if store == .healthy { sessions.suspend(silent(among: others, now: now)) }
            for replica in detector.observe(others, state: store, now: now) { await archive(replica) }
        }
        state.withLock { $0.observation = nil }
    }

    /// The replicas that show no sign of life, in the store or in the mesh.
    private func silent(among replicas: [ReplicaStatus], now: NIODeadline) -> Set<Incarnation> {
        let silent = replicas.filter { replica in
            replica.movedAt != nil && !replica.isLive(now: now)
                && sessions.replica(replica.incarnation).session?.isResponsive != true
        }
        return Set(silent.map(\.incarnation))
    }

    private func record(_ event: MemberEvent) {
        switch event {
        case .rows(let name, let changes):
            // They are delivered after the status that was read with them.
            guard state.withLock({ $0.replicas[name]?.status?.state != .left }) else { return }
            return sessions.apply(changes, of: name)
        case .gone(let name): sessions.remove(name)
        case .status(let name, let status, _, _) where status.state == .left: sessions.remove(name)
        default: break
        }
        let keyring = shared.keyring
        state.withLock { state in
            func update(_ name: Incarnation, _ change: (inout ReplicaStatus) -> Void) {
                change(&state.replicas[name, default: ReplicaStatus(incarnation: name)])
            }
            switch event {
            case .listed(let names):
                state.hasListed = true
                for name in names { update(name) { _ in } }
            case .joined(let name, let info): update(name) { $0.record(info: info, with: keyring) }
            case .status(let name, let status, let seen, let at):
                update(name) { ($0.status, $0.seen, $0.movedAt) = (status, seen, at) }
            case .problem(let name, let problem): update(name) { $0.readProblem = problem }
            case .gone(let name): state.replicas[name] = nil
            case .rows: break
            }
        }
    }

    private func archive(_ replica: ReplicaStatus) async {
        do throws(StoreError) {
            try await shared.store.archive(replica.incarnation)
            logger.info("dead replica archived", metadata: ["incarnation": "\(replica.incarnation)"])
        } catch {
            let metadata: Logger.Metadata = ["incarnation": "\(replica.incarnation)", "error": "\(error)"]
            logger.debug("dead replica not archived", metadata: metadata)
        }
    }

    // MARK: Waiting for others

    /// Waits until every live replica has acted on everything that this process has written so far.
    ///
    /// A replica reads the heartbeats of the others once a second, polls its watches if one announces a change, and
    /// states in its own heartbeat, at most 50 ms later, what it has acted on. This takes a second as a rule.
    ///
    /// - Returns: The live replicas that have not done so within `limit`.
    package func waitUntilSeen(within limit: TimeAmount) async -> [Incarnation] {
        let deadline = NIODeadline.now() + limit
        // A process that has just started does not know its peers yet, and they do not know it.
        while !(state.withLock { $0.hasListed } && presence.hasJoined), await sleep(until: deadline) {}
        guard let mark = presence.mark else { return pending(nil) }
        guard !pending(mark).isEmpty else { return [] }
        // A failed flush needs no handling: no replica acts on the changes then.
        try? await presence.flush(within: deadline - .now())
        state.withLock { $0.observation }?.hurry(until: deadline)
        while true {
            let late = pending(mark)
            guard !late.isEmpty, await sleep(until: deadline) else { return late }
        }
    }

    /// The other live replicas that have not acted on what a mark covers; all live ones if it is `nil`.
    private func pending(_ mark: Mark?) -> [Incarnation] {
        let (now, own) = (NIODeadline.now(), presence.incarnation)
        let pending = state.withLock { $0.replicas.values }.filter { replica in
            guard replica.incarnation != own, !(mark.map { replica.seen.covers($0) } ?? false) else { return false }
            // A replica that was listed and not read yet.
            guard let moved = replica.movedAt else { return replica.problem?.isTransient ?? true }
            return replica.isLive(now: now) && now - moved < Self.heartbeatAgeLimit
        }
        return pending.map(\.incarnation).sorted()
    }

    /// Sleeps for a moment, or until the deadline.
    ///
    /// - Returns: `false` if the deadline has passed or the task was cancelled.
    private func sleep(until deadline: NIODeadline) async -> Bool {
        let left = min(Self.waitInterval, deadline - .now())
        guard left > .zero else { return false }
        return (try? await Task.sleep(for: .nanoseconds(left.nanoseconds))) != nil
    }
}
