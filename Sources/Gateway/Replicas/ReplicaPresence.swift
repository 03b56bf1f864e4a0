import FoundationEssentials
package import Logging
package import NIOCore
package import Store
import Synchronization

/// This process among the replicas: its card and its heartbeat in the store.
///
/// Nothing waits for it. While the volume takes no writes the process serves without being seen, and is seen as soon as
/// the volume does.
package final class ReplicaPresence: Sendable {
    private static let interval = Duration.milliseconds(500)

    /// What the heartbeats say of this process.
    package struct Said: Sendable, Equatable {
        package var state = Heartbeat.State.starting
        package var sessions: UInt32 = 0
        /// What of its peers' publications this process has acted on; at most ``Heartbeat/seenLimit``.
        package var seen: [Heartbeat.Seen] = []

        func apply(to heartbeat: inout Heartbeat) {
            heartbeat.state = state
            heartbeat.sessions = sessions
            heartbeat.seen = seen
        }
    }

    private struct State {
        var journal: (any StoreJournal)?
        var wanted = Said()
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

    /// The name of this process; a new one when others took it for dead.
    package var incarnation: Incarnation { state.withLock { $0.journal?.incarnation } ?? first }

    /// Changes what the next heartbeats say.
    package func update(_ change: (inout Said) -> Void) {
        let (journal, said) = state.withLock { state in
            let before = state.wanted
            change(&state.wanted)
            return (before == state.wanted ? nil : state.journal, state.wanted)
        }
        journal?.update { said.apply(to: &$0) }
    }

    /// Counts one thing more as published and says so in the next heartbeat.
    ///
    /// - Returns: the number that a replica has seen when it has looked at the store after this call; nil while this
    ///   process cannot be seen in the store.
    package func announce() -> UInt64? { state.withLock { $0.journal }?.announce() }

    /// Returns when what was said before is on the volume.
    package func flush(within limit: TimeAmount) async throws(StoreError) {
        try await state.withLock { $0.journal }?.flush(within: limit)
    }

    /// Says the last word, and waits for as long as a volume takes that is well: one that hangs keeps nobody from leaving.
    package func leave() async {
        guard let journal = state.withLock({ $0.journal }) else { return }
        journal.update { $0.state = .left }
        try? await journal.flush(within: StoreHealth.limit)
    }

    /// Begins as soon as the volume lets it, then keeps the card current, until the task is cancelled.
    package func run() async {
        var isKnownToFail = false
        while !Task.isCancelled, state.withLock({ $0.journal == nil }) {
            do throws(StoreError) {
                try await begin()
            } catch {
                if !isKnownToFail {
                    let metadata: Logger.Metadata = ["error": "\(error)"]
                    logger.warning("this replica cannot be seen in the store yet", metadata: metadata)
                }
                isKnownToFail = true
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

    private func begin() async throws(StoreError) {
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
                    let metadata: Logger.Metadata = ["incarnation": "\(incarnation)"]
                    logger.warning(
                        "other replicas took this one for dead; it goes on under a new name",
                        metadata: metadata
                    )
                }
            )
        )
        let wanted = state.withLock { state -> Said in
            state.journal = journal
            return state.wanted
        }
        journal.update { wanted.apply(to: &$0) }
    }
}
