package import ACME
import Certificates
package import NIOCore
package import Store

/// A challenge that validators may ask for.
package struct PendingChallenge: Sendable {
    package let task: ChallengeTask
    /// The time at which this process learned of it.
    package let since: NIODeadline

    package init(_ task: ChallengeTask, since: NIODeadline) {
        self.task = task
        self.since = since
    }
}

/// The reason why a value below `acme/challenges` cannot be used.
package struct ChallengeProblem: Error, Equatable {
    package let reason: String
    /// The version, or `nil` if the value cannot be read.
    let version: UInt64?
    let since: NIODeadline

    package static func == (left: ChallengeProblem, right: ChallengeProblem) -> Bool {
        (left.reason, left.version) == (right.reason, right.version)
    }
}

/// The HTTP-01 and TLS-ALPN-01 challenges of the whole cluster. They have random keys.
package typealias PendingChallenges = WatchedValues<PendingChallenge, ChallengeProblem>

extension WatchedValues where Value == PendingChallenge, Failure == ChallengeProblem {
    /// The age at which a value is taken for the remnant of a process that died.
    package static var maximumAge: TimeAmount { .hours(1) }
    /// The number of expired values that are removed at a time.
    private static var removalLimit: Int { 256 }

    /// - Parameter keyring: Returns the current keys of the cluster.
    package convenience init(
        keyring: @escaping @Sendable () -> ClusterKeyring,
        clock: @escaping @Sendable () -> NIODeadline = { .now() }
    ) {
        self.init { key, stored in
            var version: UInt64?
            do {
                let stored = try stored.get()
                version = stored.version
                let document = try SealedDocument.open(stored, at: key, with: keyring())
                return .success(PendingChallenge(try ChallengeTask(document: document, at: key), since: clock()))
            } catch {
                return .failure(ChallengeProblem(reason: "\(error)", version: version, since: clock()))
            }
        }
    }

    /// The HTTP-01 challenge with a token, or `nil` if there is none.
    package func http(_ token: String) -> ChallengeTask? {
        guard let task = self[ChallengeTask.storeKey(token: token).name]?.task else { return nil }
        return task.kind == .http01 && task.token == token ? task : nil
    }

    /// The values that have not changed for ``maximumAge`` and are to be removed.
    package func expired(now: NIODeadline) -> [(name: String, version: UInt64)] {
        let expired = entries.compactMap { name, entry -> (name: String, version: UInt64)? in
            let since = entry.problem?.since ?? entry.value?.since
            guard let since, now - since > Self.maximumAge else { return nil }
            guard let problem = entry.problem else { return (name, entry.version) }
            return problem.version.map { (name, $0) }
        }
        return Array(expired.sorted { $0.name < $1.name }.prefix(Self.removalLimit))
    }
}
