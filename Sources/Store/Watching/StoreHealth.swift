package import NIOCore
import Synchronization

/// The current condition of the store.
package enum StoreState: String, Sendable, CaseIterable {
    case healthy
    /// Calls hang or fail without a specific reason.
    case stalled
    case readOnly = "read-only"
    case full
    /// The store's folder is missing.
    case gone
}

/// The condition of the store, judged by this process's own round trips: a heartbeat is written, opened again by path
/// and read back. May be asked from any thread; no method waits for the volume.
package final class StoreHealth: Sendable {
    /// The longest normal round trip, and the time for which failures are tolerated.
    package static let limit = TimeAmount.seconds(2)

    private struct Facts {
        /// The start of the round trip in progress.
        var began: NIODeadline?
        /// The last heartbeat, or the start.
        var lastGood: NIODeadline
        /// Whether there was a heartbeat: a process that is no member makes none.
        var isMember = false
        var lastWasSlow = false
        var failure: StoreError?
        /// The failure of a write that found no space, if none has succeeded since.
        var spaceFailure: StoreError?
        var roundTrip: TimeAmount?
    }

    private let facts: Mutex<Facts>
    /// The number of bytes that have to be free for a full volume to count as healthy again, for messages.
    private let requiredSpace: Int

    package init(now: NIODeadline, requiredSpace: Int) {
        facts = Mutex(Facts(lastGood: now))
        self.requiredSpace = requiredSpace
    }

    /// Records the start of a round trip.
    package func roundTripStarted(now: NIODeadline) {
        facts.withLock { $0.began = now }
    }

    /// Records the end of a round trip.
    package func roundTripSucceeded(now: NIODeadline) {
        facts.withLock { facts in
            let took = facts.began.map { now - $0 }
            facts.began = nil
            facts.lastGood = now
            facts.isMember = true
            facts.roundTrip = took
            facts.lastWasSlow = took.map { $0 > Self.limit } ?? false
            facts.failure = nil
        }
    }

    /// Discards a started round trip, because nothing was due.
    package func roundTripCancelled() {
        facts.withLock { $0.began = nil }
    }

    /// Records the failure of a round trip.
    ///
    /// - Parameter isHeartbeatWritten: Whether only the log failed. On a full disk that is a successful round trip.
    package func roundTripFailed(_ error: StoreError, isHeartbeatWritten: Bool, now: NIODeadline) {
        facts.withLock { facts in
            facts.began = nil
            if isHeartbeatWritten { facts.lastGood = now }
            if error.code == .full { facts.spaceFailure = error }
            facts.failure = error.code == .full && isHeartbeatWritten ? nil : error
        }
    }

    /// Records that a write other than the heartbeat has succeeded, or the error with which it failed.
    package func recordWrite(_ error: StoreError? = nil) {
        guard error == nil || error?.code == .full else { return }
        facts.withLock { $0.spaceFailure = error }
    }

    /// Whether the last write found no space, so that the volume has to be probed.
    package var needsSpaceProbe: Bool { facts.withLock { $0.spaceFailure != nil } }

    /// The time of the last heartbeat that was written and read back, or of the start.
    var lastHeartbeat: NIODeadline { facts.withLock { $0.lastGood } }

    /// The duration of the last round trip.
    package var roundTrip: TimeAmount? { facts.withLock { $0.roundTrip } }

    /// The last failure, for a log line or the body of `/readyz`, or `nil` if the last round trip and write succeeded.
    package var failure: StoreError? {
        guard let failure = facts.withLock({ $0.failure ?? $0.spaceFailure }) else { return nil }
        guard failure.code == .full else { return failure }
        return failure.adding("the store counts as full until at least \(requiredSpace >> 10) KiB are free")
    }

    package func state(now: NIODeadline) -> StoreState {
        facts.withLock { facts in
            if let began = facts.began, now - began > Self.limit { return .stalled }
            switch facts.failure?.code {
            case .readOnly, .denied: return .readOnly
            case .gone, .notFound: return .gone
            case .full: return .full
            case .some where now - facts.lastGood > Self.limit: return .stalled
            default: break
            }
            // Twice the limit without a heartbeat: none is being attempted.
            if facts.lastWasSlow { return .stalled }
            if facts.isMember, now - facts.lastGood > Self.limit + Self.limit { return .stalled }
            return facts.spaceFailure != nil ? .full : .healthy
        }
    }
}
