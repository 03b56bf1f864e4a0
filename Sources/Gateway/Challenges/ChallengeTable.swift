package import ACME
import Certificates
import Synchronization

/// The challenges that this replica answers, by token.
///
/// May be used from any thread: event loops read it once for each request of a validator, and the task that polls the
/// store changes it.
package final class ChallengeTable: Sendable {
    /// The maximum number of challenges: one for each name that is being validated in the whole cluster.
    package static let limit = 1_000

    package struct Answer: Sendable {
        /// The body of the response (RFC 8555 §8.3).
        package let keyAuthorization: String
        package let name: CertificateName
        /// Whether this is the first response with this key authorization.
        package let isFirst: Bool
    }

    private struct Entry {
        let task: ChallengeTask
        /// The position of the entry in the order of insertion.
        var sequence: UInt64
        var wasAnswered = false
    }

    private struct State {
        var entries: [String: Entry] = [:]
        /// The sequence number of the latest insertion.
        var sequence: UInt64 = 0
    }

    private let state = Mutex(State())

    package init() {}

    /// Inserts a challenge, or replaces the one with the same token.
    ///
    /// - Parameter isNew: Whether a challenge that is already present gets a new sequence number.
    /// - Returns: `false` if the table is full.
    package func insert(_ task: ChallengeTask, isNew: Bool = false) -> Bool {
        state.withLock { state in
            let known = state.entries[task.token]
            if let known, known.task == task, !isNew { return true }
            guard known != nil || state.entries.count < Self.limit else { return false }
            state.sequence += 1
            let wasAnswered = known?.task == task && known?.wasAnswered == true
            state.entries[task.token] = Entry(task: task, sequence: state.sequence, wasAnswered: wasAnswered)
            return true
        }
    }

    /// The sequence number of the latest insertion. Later insertions have greater ones.
    package var latestSequence: UInt64 { state.withLock { $0.sequence } }

    /// Removes challenges.
    ///
    /// - Parameter sequence: Challenges that were inserted after this one stay.
    package func remove(_ tasks: some Sequence<ChallengeTask>, upTo sequence: UInt64 = .max) {
        state.withLock { state in
            for task in tasks {
                guard let entry = state.entries[task.token], entry.task == task, entry.sequence <= sequence else {
                    continue
                }
                state.entries[task.token] = nil
            }
        }
    }

    package var tasks: [ChallengeTask] { state.withLock { $0.entries.values.map(\.task) } }

    package var isEmpty: Bool { state.withLock { $0.entries.isEmpty } }

    /// The TLS-ALPN-01 challenges in the order of insertion.
    package var alpn: [ChallengeTask] {
        let entries = state.withLock { $0.entries.values.filter { $0.task.kind == .tlsALPN01 } }
        return entries.sorted { $0.sequence < $1.sequence }.map(\.task)
    }

    /// The response to a request for this HTTP-01 token, or `nil` if the token is unknown. Marks the challenge as
    /// answered.
    package func answer(_ token: String) -> Answer? {
        state.withLock { state in
            guard let entry = state.entries[token], entry.task.kind == .http01 else { return nil }
            if !entry.wasAnswered { state.entries[token]?.wasAnswered = true }
            return Answer(
                keyAuthorization: entry.task.keyAuthorization,
                name: entry.task.name,
                isFirst: !entry.wasAnswered
            )
        }
    }

    /// Whether this challenge is in the table. Does not mark it as answered.
    package func contains(_ task: ChallengeTask) -> Bool { state.withLock { $0.entries[task.token]?.task == task } }
}
