import FoundationEssentials
package import Logging
package import NIOCore
package import Store
import Synchronization

/// This process as a member of the cluster: its description and its heartbeat in the store.
///
/// Nothing on the data path waits for it. While the volume accepts no writes the process serves without being a visible
/// member, and becomes one as soon as the volume recovers.
package final class ReplicaPresence: Sendable {
    private static let interval = Duration.milliseconds(500)

    /// The fields of the heartbeat that the process sets.
    package struct HeartbeatContent: Sendable, Equatable {
        package var state = Heartbeat.State.starting
        package var sessions: UInt32 = 0
        /// The announcements of peers that this process has acknowledged; at most ``Heartbeat/seenLimit``.
        package var seen: [Heartbeat.Seen] = []

        func apply(to heartbeat: inout Heartbeat) {
            heartbeat.state = state
            heartbeat.sessions = sessions
            heartbeat.seen = seen
        }
    }

    private struct State {
        var journal: (any StoreJournal)?
        var content = HeartbeatContent()
    }

    private let shared: SharedStore
    private let name: String
    private let version: String
    private let logger: Logger
    private let first = Incarnation(milliseconds: UInt64(Date().timeIntervalSince1970 * 1_000)) {
        UInt64.random(in: .min ... .max)
    }
    private let state = Mutex(State())

    package init(shared: SharedStore, name: String, version: String, logger: Logger) {
        self.shared = shared
        self.name = name
        self.version = version
        self.logger = logger
    }

    /// The incarnation of this process. It changes if peers have declared the process dead.
    package var incarnation: Incarnation { state.withLock { $0.journal?.incarnation } ?? first }

    /// Changes the fields of the next heartbeats.
    package func update(_ change: (inout HeartbeatContent) -> Void) {
        let (journal, content) = state.withLock { state in
            let before = state.content
            change(&state.content)
            return (before == state.content ? nil : state.journal, state.content)
        }
        journal?.update { content.apply(to: &$0) }
    }

    /// Increments the count of announcements in the next heartbeat.
    ///
    /// - Returns: The new count. A replica that acknowledges it has read the store after this call. `nil` while this
    ///   process has no heartbeat in the store.
    package func announce() -> UInt64? { state.withLock { $0.journal }?.announce() }

    /// Waits until the fields that were set before this call are on the volume.
    package func flush(within limit: TimeAmount) async throws(StoreError) {
        try await state.withLock { $0.journal }?.flush(within: limit)
    }

    /// Records in the heartbeat that this process leaves, and waits no longer than a healthy volume needs: a volume that
    /// hangs does not delay the exit.
    package func leave() async {
        guard let journal = state.withLock({ $0.journal }) else { return }
        journal.update { $0.state = .left }
        try? await journal.flush(within: StoreHealth.limit)
    }

    /// Joins the cluster as soon as the volume permits, then keeps the description current, until the task is cancelled.
    package func run() async {
        var hasLogged = false
        while !Task.isCancelled, state.withLock({ $0.journal == nil }) {
            do throws(StoreError) {
                try await join()
            } catch {
                if !hasLogged {
                    logger.warning("replica not registered in the store yet", metadata: ["error": "\(error)"])
                }
                hasLogged = true
                try? await Task.sleep(for: Self.interval)
            }
        }
        var keys = shared.keyring
        while !Task.isCancelled {
            try? await Task.sleep(for: Self.interval)
            guard shared.keyring != keys else { continue }
            keys = shared.keyring
            state.withLock { $0.journal }?.renewInfo()
        }
    }

    private func join() async throws(StoreError) {
        let (shared, name, version, logger, first) = (shared, name, version, logger, first)
        let names = Mutex([first])
        let journal = try await shared.store.journal(
            JournalOptions(
                incarnation: {
                    names.withLock { $0.popLast() }
                        ?? Incarnation(milliseconds: first.milliseconds) { UInt64.random(in: .min ... .max) }
                },
                info: { incarnation in
                    let keyring = shared.keyring
                    return ReplicaInfo(name: name, version: version, keys: keyring.keys.map(\.id))
                        .sealed(for: incarnation, with: keyring.signing)
                },
                onNewIncarnation: { incarnation in
                    logger.warning(
                        "replica was declared dead by its peers; continuing as a new incarnation",
                        metadata: ["incarnation": "\(incarnation)"]
                    )
                }
            )
        )
        let content = state.withLock { state -> HeartbeatContent in
            state.journal = journal
            return state.content
        }
        journal.update { content.apply(to: &$0) }
    }
}
