package import Logging
package import NIOCore
package import Store

/// Reduces the states of the store to few reports: one when it degrades, one when the kind of degradation changes, one
/// when it has recovered. A volume that fails and recovers every second is reported seldom.
///
/// Without clock and store: the owner passes each observed state and its time.
package struct StoreStateMonitor: Sendable {
    /// The minimum duration of a state that is reported.
    static let settling = TimeAmount.milliseconds(500)
    /// The minimum time between two reports of degradation. A recovery is reported at once, so that no operator
    /// investigates a problem that has passed.
    static let pause = TimeAmount.seconds(10)

    package enum Report: Equatable, Sendable {
        case degraded(StoreState, reason: String?)
        /// - after: The duration of the degradation.
        case healthy(after: TimeAmount)
    }

    private var reported = StoreState.healthy
    private var seen = StoreState.healthy
    private var seenSince: NIODeadline
    private var degradedSince: NIODeadline?
    private var lastDegradedReport: NIODeadline?
    /// The places of the hints that were reported as refused.
    private var refusedHints: Set<String> = []
    /// The highest number of hints that are reported.
    private static let hintLimit = 16

    package init(now: NIODeadline) {
        seenSince = now
    }

    /// Records the present state; called a few times a second.
    ///
    /// - Returns: The report to make now, or `nil` if there is none.
    package mutating func observe(_ state: StoreState, reason: String?, now: NIODeadline) -> Report? {
        if state != seen {
            seen = state
            seenSince = now
        }
        if state != .healthy, degradedSince == nil { degradedSince = now }
        guard seen != reported, now - seenSince >= Self.settling else {
            // A degradation that was too short to be reported does not count.
            if state == .healthy, reported == .healthy { degradedSince = nil }
            return nil
        }
        guard seen == .healthy else {
            guard lastDegradedReport.map({ now - $0 >= Self.pause }) ?? true else { return nil }
            reported = seen
            lastDegradedReport = now
            return .degraded(seen, reason: reason)
        }
        reported = seen
        defer { degradedSince = nil }
        return .healthy(after: seenSince - (degradedSince ?? seenSince))
    }

    /// Records the last failure of a hint.
    ///
    /// - Returns: The failure if it is to be reported: once for each place, and for the first places only.
    package mutating func observe(refusedHint: StoreError?) -> StoreError? {
        guard let refusedHint, refusedHints.count < Self.hintLimit else { return nil }
        return refusedHints.insert(refusedHint.place).inserted ? refusedHint : nil
    }
}

extension StoreStateMonitor {
    private static let interval = Duration.milliseconds(250)

    /// Logs the state of a store until the task is cancelled. Reads memory only, never the volume.
    package static func run(_ store: any Store, logger: Logger) async {
        var monitor = StoreStateMonitor(now: .now())
        while !Task.isCancelled {
            try? await Task.sleep(for: interval)
            let (diagnostics, state) = (store.diagnostics, store.state)
            if let refused = monitor.observe(refusedHint: diagnostics.refusedHint) {
                logger.warning("hint in the store refused; changes are found late", metadata: ["error": "\(refused)"])
            }
            let failure = diagnostics.failure ?? diagnostics.watchFailure
            // A watch that reads nothing delivers no change, although the store works otherwise.
            let observed = state == .healthy && diagnostics.watchFailure != nil ? .stalled : state
            switch monitor.observe(observed, reason: failure?.description, now: .now()) {
            case .degraded(let state, let reason):
                var metadata: Logger.Metadata = ["state": "\(state.rawValue)"]
                if let reason { metadata["error"] = "\(reason)" }
                logger.warning("store degraded; requests are served from cached state", metadata: metadata)
            case .healthy(let duration):
                let seconds = Double(duration.nanoseconds / 1_000_000) / 1_000
                logger.notice("store recovered", metadata: ["after_seconds": "\(seconds)"])
            case nil: break
            }
        }
    }
}
