package import Logging
package import NIOCore
package import Store
import Synchronization

/// A replica as this process sees it.
package struct ReplicaStatus: Sendable {
    package let incarnation: Incarnation
    /// Nil while its card cannot be read, or is not genuine.
    package var card: ReplicaInfo?
    package var heartbeat: Heartbeat?
    /// When the heartbeat moved last, on this process's monotonic clock.
    package var movedAt: NIODeadline?
    package var problem: StoreError?

    package init(incarnation: Incarnation) {
        self.incarnation = incarnation
    }
}

/// Looks at the journals of all replicas once a second, or twice while ``hurry(_:)`` says so, and puts those away that
/// have been dead for long.
package final class ReplicaWatch: Sendable {
    static let interval = Duration.seconds(1)
    static let hurriedInterval = Duration.milliseconds(500)
    /// A heartbeat that did not move for so long, while the store works for us, is no sign of life any more.
    package static let stale = TimeAmount.seconds(5)

    private let shared: SharedStore
    private let logger: Logger
    private let current = Mutex<[ReplicaStatus]>([])
    private let news = Mutex<(@Sendable () -> Void)?>(nil)
    private let isHurried = Atomic(false)
    private let lookedOnce = Atomic(false)

    package init(shared: SharedStore, logger: Logger) {
        self.shared = shared
        self.logger = logger
    }

    /// As of the last look.
    package var replicas: [ReplicaStatus] { current.withLock { $0 } }

    /// False until the first look is complete: then nobody is known, which does not mean that there is nobody.
    package var hasLooked: Bool { lookedOnce.load(ordering: .relaxed) }

    /// Whether somebody waits for what others publish.
    package func hurry(_ isHurried: Bool) { self.isHurried.store(isHurried, ordering: .relaxed) }

    /// Called, on any thread, when a replica was seen to have published something. For one listener.
    package func onNews(_ body: @escaping @Sendable () -> Void) { news.withLock { $0 = body } }

    package static func isLive(_ replica: ReplicaStatus, now: NIODeadline) -> Bool {
        guard let heartbeat = replica.heartbeat, heartbeat.state != .left, let moved = replica.movedAt else {
            return false
        }
        return now - moved < stale
    }

    /// Until the task is cancelled.
    package func run() async {
        var silence = DeadReplicaDetector()
        while !Task.isCancelled {
            let found = try? await look()
            if let found {
                let before = current.withLock { current in
                    defer { current = found }
                    return Self.published(current)
                }
                lookedOnce.store(true, ordering: .relaxed)
                if Self.published(found) != before { tell() }
            }
            let dead = silence.observe(found, state: shared.store.state, now: .now())
            for replica in dead { await bury(replica) }
            let isHurried = isHurried.load(ordering: .relaxed)
            try? await Task.sleep(for: isHurried ? Self.hurriedInterval : Self.interval)
        }
    }

    /// At all of them at once: one whose files hang holds up nobody else's evidence.
    private func look() async throws(StoreError) -> [ReplicaStatus] {
        let known = Dictionary(uniqueKeysWithValues: replicas.map { ($0.incarnation, $0) })
        let all = try await shared.store.replicas()
        return await withTaskGroup(of: ReplicaStatus.self) { group in
            for incarnation in all {
                let before = known[incarnation] ?? ReplicaStatus(incarnation: incarnation)
                group.addTask { await self.look(at: before) }
            }
            var found: [ReplicaStatus] = []
            for await status in group {
                found.append(status)
                let isNews = current.withLock { current in
                    guard let index = current.firstIndex(where: { $0.incarnation == status.incarnation }) else {
                        return false
                    }
                    defer { current[index] = status }
                    return current[index].heartbeat?.published != status.heartbeat?.published
                }
                if isNews { tell() }
            }
            return found.sorted { $0.incarnation < $1.incarnation }
        }
    }

    private func look(at before: ReplicaStatus) async -> ReplicaStatus {
        var status = before
        let sight = await shared.store.observe(before.incarnation)
        status.heartbeat = sight.lastHeartbeat?.heartbeat ?? status.heartbeat
        status.movedAt = sight.lastHeartbeat?.movedAt ?? status.movedAt
        status.problem = sight.problem
        do throws(StoreError) {
            let bytes = try await shared.store.info(of: before.incarnation)
            status.card = try ReplicaInfo(bytes, of: before.incarnation, with: shared.keyring)
        } catch {
            status.problem = status.problem ?? error
        }
        return status
    }

    private func tell() {
        let body = news.withLock { $0 }
        body?()
    }

    private static func published(_ replicas: [ReplicaStatus]) -> [Incarnation: UInt64] {
        var published: [Incarnation: UInt64] = [:]
        for replica in replicas { published[replica.incarnation] = replica.heartbeat?.published }
        return published
    }

    private func bury(_ replica: ReplicaStatus) async {
        do throws(StoreError) {
            try await shared.store.archive(replica.incarnation)
            logger.info("a dead replica was put away", metadata: ["incarnation": "\(replica.incarnation)"])
        } catch {
            let metadata: Logger.Metadata = ["incarnation": "\(replica.incarnation)", "error": "\(error)"]
            logger.debug("a dead replica could not be put away", metadata: metadata)
        }
    }
}
