package import Logging
package import NIOCore
import Store
import Synchronization

/// Polls the journals of all replicas once a second, or twice a second while ``setUrgent(_:)`` asks for it, and archives
/// replicas that have been dead for long.
package final class ReplicaWatch: Sendable {
    static let interval = Duration.seconds(1)
    static let urgentInterval = Duration.milliseconds(500)
    /// The age above which a heartbeat is no sign of life any more, provided that the local store works.
    package static let stale = TimeAmount.seconds(5)

    private let shared: SharedStore
    private let logger: Logger
    private let current = Mutex<[ReplicaStatus]>([])
    private let listener = Mutex<(@Sendable () -> Void)?>(nil)
    private let isUrgent = Atomic(false)
    private let hasCompletedPoll = Atomic(false)

    package init(shared: SharedStore, logger: Logger) {
        self.shared = shared
        self.logger = logger
    }

    /// The replicas as of the last poll.
    package var replicas: [ReplicaStatus] { current.withLock { $0 } }

    /// Whether the first poll is complete. Until then ``replicas`` is empty, which does not mean that there are none.
    package var hasPolled: Bool { hasCompletedPoll.load(ordering: .relaxed) }

    /// Sets whether replicas are polled more often, because announcements of peers are expected.
    package func setUrgent(_ isUrgent: Bool) { self.isUrgent.store(isUrgent, ordering: .relaxed) }

    /// Registers the one listener that is called, on any thread, when a replica is seen to have announced a change.
    package func onAnnouncement(_ body: @escaping @Sendable () -> Void) { listener.withLock { $0 = body } }

    package static func isLive(_ replica: ReplicaStatus, now: NIODeadline) -> Bool {
        guard let heartbeat = replica.heartbeat, heartbeat.state != .left, let moved = replica.movedAt else {
            return false
        }
        return now - moved < stale
    }

    /// Polls until the task is cancelled.
    package func run() async {
        var detector = DeadReplicaDetector()
        while !Task.isCancelled {
            let found = try? await poll()
            if let found {
                let before = current.withLock { current in
                    defer { current = found }
                    return Self.announcements(of: current)
                }
                hasCompletedPoll.store(true, ordering: .relaxed)
                if Self.announcements(of: found) != before { notifyListener() }
            }
            let dead = detector.observe(found, state: shared.store.state, now: .now())
            for replica in dead { await archive(replica) }
            let isUrgent = isUrgent.load(ordering: .relaxed)
            try? await Task.sleep(for: isUrgent ? Self.urgentInterval : Self.interval)
        }
    }

    /// Reads all replicas concurrently, so that one whose files hang does not delay the others.
    private func poll() async throws(StoreError) -> [ReplicaStatus] {
        let known = Dictionary(uniqueKeysWithValues: replicas.map { ($0.incarnation, $0) })
        let all = try await shared.store.replicas()
        return await withTaskGroup(of: ReplicaStatus.self) { group in
            for incarnation in all {
                let before = known[incarnation] ?? ReplicaStatus(incarnation: incarnation)
                group.addTask { await self.poll(before) }
            }
            var found: [ReplicaStatus] = []
            for await status in group {
                found.append(status)
                let isNew = current.withLock { current in
                    guard let index = current.firstIndex(where: { $0.incarnation == status.incarnation }) else {
                        return false
                    }
                    defer { current[index] = status }
                    return current[index].heartbeat?.published != status.heartbeat?.published
                }
                if isNew { notifyListener() }
            }
            return found.sorted { $0.incarnation < $1.incarnation }
        }
    }

    private func poll(_ before: ReplicaStatus) async -> ReplicaStatus {
        var status = before
        let observation = await shared.store.observe(before.incarnation)
        status.heartbeat = observation.lastHeartbeat?.heartbeat ?? status.heartbeat
        status.movedAt = observation.lastHeartbeat?.movedAt ?? status.movedAt
        status.problem = observation.problem
        do throws(StoreError) {
            let bytes = try await shared.store.info(of: before.incarnation)
            status.info = try ReplicaInfo(bytes, of: before.incarnation, with: shared.keyring)
        } catch {
            status.problem = status.problem ?? error
        }
        return status
    }

    private func notifyListener() {
        let body = listener.withLock { $0 }
        body?()
    }

    private static func announcements(of replicas: [ReplicaStatus]) -> [Incarnation: UInt64] {
        var announcements: [Incarnation: UInt64] = [:]
        for replica in replicas { announcements[replica.incarnation] = replica.heartbeat?.published }
        return announcements
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
}
