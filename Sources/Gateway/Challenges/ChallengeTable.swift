package import Certificates
import Synchronization

/// The challenges that this replica answers, by token. From any thread; an event loop asks it for each request of a
/// validator.
package final class ChallengeTable: Sendable {
    /// Challenges at most: one for each name that is being validated in the whole cluster.
    package static let limit = 1_000

    package struct Answer: Sendable {
        package let keyAuthorization: String
        package let name: CertificateName
        /// Nobody was given it before.
        package let isFirst: Bool
    }

    private struct Entry {
        let task: ChallengeTask
        var number: UInt64
        var wasGiven = false
    }

    private struct State {
        var entries: [String: Entry] = [:]
        /// Of the entry that was taken last.
        var number: UInt64 = 0
    }

    private let state = Mutex(State())

    package init() {}

    /// - Parameter isNew: it counts as taken now even if it was known.
    /// - Returns: false when there is no room.
    package func take(_ task: ChallengeTask, isNew: Bool = false) -> Bool {
        state.withLock { state in
            let known = state.entries[task.token]
            if let known, known.task == task, !isNew { return true }
            guard known != nil || state.entries.count < Self.limit else { return false }
            state.number += 1
            let wasGiven = known?.task == task && known?.wasGiven == true
            state.entries[task.token] = Entry(task: task, number: state.number, wasGiven: wasGiven)
            return true
        }
    }

    /// What was taken up to now has at most this number.
    package var mark: UInt64 { state.withLock { $0.number } }

    /// - Parameter mark: what was taken after it stays.
    package func drop(_ tasks: some Sequence<ChallengeTask>, upTo mark: UInt64 = .max) {
        state.withLock { state in
            for task in tasks {
                guard let entry = state.entries[task.token], entry.task == task, entry.number <= mark else { continue }
                state.entries[task.token] = nil
            }
        }
    }

    package var tasks: [ChallengeTask] { state.withLock { $0.entries.values.map(\.task) } }

    package var isEmpty: Bool { state.withLock { $0.entries.isEmpty } }

    /// The tasks for TLS-ALPN-01, the one that was taken last at the end.
    package var alpn: [ChallengeTask] {
        let entries = state.withLock { $0.entries.values.filter { $0.task.kind == .tlsALPN01 } }
        return entries.sorted { $0.number < $1.number }.map(\.task)
    }

    /// The answer for HTTP-01.
    package func answer(_ token: String) -> Answer? {
        state.withLock { state in
            guard let entry = state.entries[token], entry.task.kind == .http01 else { return nil }
            if !entry.wasGiven { state.entries[token]?.wasGiven = true }
            return Answer(
                keyAuthorization: entry.task.keyAuthorization,
                name: entry.task.name,
                isFirst: !entry.wasGiven
            )
        }
    }

    /// The same without giving it to anybody.
    package func answers(_ task: ChallengeTask) -> Bool { state.withLock { $0.entries[task.token]?.task == task } }
}
