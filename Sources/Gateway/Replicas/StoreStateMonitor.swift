package import Logging
package import NIOCore
package import Store

/// Turns the states of the store into a few reports: one when trouble begins, one when it is another trouble, one when
/// it is over. A volume that comes and goes every second is told of seldom.
///
/// Sans clock and sans store: the owner says what it sees and when.
package struct StoreStateMonitor: Sendable {
    /// A state that lasts shorter is not told.
    static let settling = TimeAmount.milliseconds(500)
    /// Between two reports of trouble. Its end is told at once: nobody should look for a trouble that is over.
    static let pause = TimeAmount.seconds(10)

    package enum Report: Equatable, Sendable {
        case trouble(StoreState, reason: String?)
        /// - Parameter after: how long the trouble lasted.
        case healthy(after: TimeAmount)
    }

    private var told = StoreState.healthy
    private var seen = StoreState.healthy
    private var seenSince: NIODeadline
    private var troubleSince: NIODeadline?
    private var lastTrouble: NIODeadline?

    package init(now: NIODeadline) {
        seenSince = now
    }

    /// To be called a few times a second. Returns what is to be told now.
    package mutating func observe(_ state: StoreState, reason: String?, now: NIODeadline) -> Report? {
        if state != seen {
            seen = state
            seenSince = now
        }
        if state != .healthy, troubleSince == nil { troubleSince = now }
        guard seen != told, now - seenSince >= Self.settling else {
            // A hiccup that nobody was told of is forgotten.
            if state == .healthy, told == .healthy { troubleSince = nil }
            return nil
        }
        guard seen == .healthy else {
            guard lastTrouble.map({ now - $0 >= Self.pause }) ?? true else { return nil }
            told = seen
            lastTrouble = now
            return .trouble(seen, reason: reason)
        }
        told = seen
        defer { troubleSince = nil }
        return .healthy(after: seenSince - (troubleSince ?? seenSince))
    }
}

extension StoreStateMonitor {
    private static let interval = Duration.milliseconds(250)

    /// Follows a store until the task is cancelled. Asks memory only.
    package static func run(_ store: any Store, logger: Logger) async {
        var follower = StoreStateMonitor(now: .now())
        while !Task.isCancelled {
            try? await Task.sleep(for: interval)
            let failure = (store as? VolumeStore)?.health.failure
            switch follower.observe(store.state, reason: failure?.description, now: .now()) {
            case .trouble(let state, let reason):
                var metadata: Logger.Metadata = ["state": "\(state.rawValue)"]
                if let reason { metadata["error"] = "\(reason)" }
                logger.warning("the store is in trouble; requests go on with what is known", metadata: metadata)
            case .healthy(let duration):
                let seconds = Double(duration.nanoseconds / 1_000_000) / 1_000
                logger.notice("the store is healthy again", metadata: ["after_seconds": "\(seconds)"])
            case nil: break
            }
        }
    }
}
