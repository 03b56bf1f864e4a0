package import NIOCore
import Synchronization

/// What the store can do right now.
package enum StoreState: String, Sendable, CaseIterable {
    case healthy
    /// Calls hang, or fail without saying why.
    case stalled
    case readOnly = "read-only"
    case full
    /// The folder is not there.
    case gone
}

/// Judges the store by this process's own round trips: a heartbeat written, opened anew by path and read back. Any thread
/// may ask; nothing here waits for the volume.
package final class StoreHealth: Sendable {
    /// A round trip takes no longer, and failures count as a hiccup for so long.
    package static let limit = TimeAmount.seconds(2)

    private struct Facts {
        var began: NIODeadline?
        var lastGood: NIODeadline
        var lastWasSlow = false
        var failure: StoreError?
        /// Something found no space, and nothing has found some since.
        var isFull = false
        var roundTrip: TimeAmount?
    }

    private let facts: Mutex<Facts>

    package init(now: NIODeadline) {
        facts = Mutex(Facts(lastGood: now))
    }

    package func began(now: NIODeadline) {
        facts.withLock { $0.began = now }
    }

    package func succeeded(now: NIODeadline) {
        facts.withLock { facts in
            let took = facts.began.map { now - $0 }
            facts.began = nil
            facts.lastGood = now
            facts.roundTrip = took
            facts.lastWasSlow = took.map { $0 > Self.limit } ?? false
            facts.failure = nil
        }
    }

    /// What had begun turned out not to be due.
    package func abandoned() {
        facts.withLock { $0.began = nil }
    }

    package func failed(_ error: StoreError, now: NIODeadline) {
        facts.withLock { facts in
            facts.began = nil
            // A beat that works on a full disk is a round trip all the same.
            if error.code == .full {
                facts.isFull = true
                facts.lastGood = now
                facts.failure = nil
            } else {
                facts.failure = error
            }
        }
    }

    /// A call besides the heartbeat found no space, or found some.
    package func space(found: Bool) {
        facts.withLock { $0.isFull = !found }
    }

    package var needsSpaceProbe: Bool { facts.withLock { $0.isFull } }

    /// How long the last round trip took.
    package var roundTrip: TimeAmount? { facts.withLock { $0.roundTrip } }

    /// The last failure, for a log line or the body of `/readyz`; nil while all is well.
    package var failure: StoreError? { facts.withLock { $0.failure } }

    package func state(now: NIODeadline) -> StoreState {
        facts.withLock { facts in
            if let began = facts.began, now - began > Self.limit { return .stalled }
            switch facts.failure?.code {
            case .readOnly, .denied: return .readOnly
            case .gone, .notFound: return .gone
            case .some where now - facts.lastGood > Self.limit: return .stalled
            default: break
            }
            // Twice the limit without a beat: nobody even tries.
            if facts.lastWasSlow || now - facts.lastGood > Self.limit + Self.limit { return .stalled }
            return facts.isFull ? .full : .healthy
        }
    }
}
