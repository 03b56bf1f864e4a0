import Formats
package import NIOCore

/// The state machine of one CA in one process: whether names may be ordered from it, and which ones wait.
///
/// The gate is open until a failure concerns the CA as a whole. Then it is closed by an ``AuthorityHold``, which all
/// replicas share through the store; names that are due wait at the gate, and nothing is recorded for each of them.
/// When the hold ends, one replica replaces the record by a claim, and lets one name make an attempt. If the CA accepts
/// the order, the record is removed and all names are released, spread over half a minute; otherwise there is a new
/// hold.
///
/// Names, the *keys*, report at any time: ``wait(_:)``, ``failed(_:by:authority:since:now:random:)``,
/// ``succeeded(by:now:)``. One task performs the actions that ``next(now:)`` returns, one after another, and reports
/// the results of ``Action/load``, ``Action/write(_:replacing:)`` and ``Action/remove(version:)``. After
/// ``Action/wait(until:)`` it calls again at that time, or when something was reported. The wall clock of all times is
/// the CA's.
package struct AuthorityGate {
    package enum Action: Equatable, Sendable {
        /// Read the record. Next: ``AuthorityGate/loaded(_:version:now:)``.
        case load
        /// Write the record; `nil` creates it. Next: ``AuthorityGate/written(version:now:random:)``, or
        /// ``AuthorityGate/conflicted()`` if another version is stored.
        case write(AuthorityHold, replacing: UInt64?)
        /// Remove the record. Next: ``AuthorityGate/removed()`` or ``AuthorityGate/conflicted()``.
        case remove(version: UInt64)
        /// Let these names decide again.
        case wake([String])
        case report(Report)
        /// A wait until this time, or until something is reported, without a limit if it is `nil`.
        case wait(until: NIODeadline?)
    }

    /// A change for the operator, reported by the replica that caused it, at most once a minute.
    package enum Report: Equatable, Sendable {
        case closed(AuthorityHold, waiting: Int)
        /// - Parameter seconds: The time since the first failure.
        case opened(seconds: Int64, waiting: Int)
    }

    package struct Timing: Sendable {
        /// The pause after a failure, in seconds, to which up to a fifth is added.
        package var pause: Int64 = 25
        /// The time for which a claim excludes other replicas, in seconds.
        package var claim: Int64 = 60
        /// The time over which the names are spread when the gate opens, in seconds.
        package var spread: Int64 = 30
        /// The shortest time between two reports, in seconds.
        package var report: Int64 = 60

        /// The longest time without an attempt in seconds, also if `Retry-After` is longer: what a CA reports as a
        /// limit of the account may be the limit of one name, which keeps its own time.
        package static let longestPause: Int64 = 3_600

        package init() {}
    }

    /// The time during which a success of another name shows that a failure does not concern the CA as a whole.
    private static let freshness = TimeAmount.seconds(10)
    /// The delay of a report after the gate was closed, so that it can state how many names wait.
    private static let reportDelay = TimeAmount.seconds(2)
    private static let storePause = TimeAmount.seconds(5)

    private let timing: Timing
    private let settings: String
    /// The hold in effect; it is to be stored if it differs from ``stored``.
    package private(set) var hold: AuthorityHold?
    private var stored: (hold: AuthorityHold, version: UInt64)?
    /// Whether the stored record has to be read.
    private var isOutdated = true
    /// Whether the record has been read once.
    private var isKnown = false
    /// The time until which the store is left alone after an error.
    private var storeNotBefore = NIODeadline.uptimeNanoseconds(0)

    /// The record that is being written.
    private var writing: AuthorityHold?
    /// The name that was chosen for the attempt and is to be woken.
    private var woken: String?
    /// The time of the next attempt.
    private var due = NIODeadline.uptimeNanoseconds(0)
    /// Whether ``hold`` is a claim of this replica that is being stored.
    private var isClaiming = false
    /// The name that makes the attempt, and the end of the claim.
    private var attempt: (key: String, end: NIODeadline)?
    /// The name that caused the hold. Another one makes the next attempt if possible.
    private var lastFailed: String?
    /// The name whose attempt the operator has requested.
    private var prioritized: String?
    private var lastSuccess: NIODeadline?

    private var waiting: Set<String> = []
    private var released: [String] = []
    private var releaseSize = 0
    private var nextRelease = NIODeadline.uptimeNanoseconds(0)

    /// The report that is to be made, and the one that was made last.
    private var report: (report: Report, due: NIODeadline)?
    private var isReportedClosed = false
    private var nextReport = NIODeadline.uptimeNanoseconds(0)

    /// - Parameter settings: A fingerprint of the settings of the CA and the account.
    package init(_ timing: Timing = Timing(), settings: String = "") {
        self.timing = timing
        self.settings = settings
    }

    // MARK: Names

    /// Whether a name may be ordered now. No name may before the record was read.
    package func admits(_ key: String) -> Bool { (hold == nil && isKnown) || attempt?.key == key }

    package var waitingCount: Int { waiting.count + released.count }

    /// Lets a name that is due wait until the gate opens. Returns `false` if it is open.
    package mutating func wait(_ key: String) -> Bool {
        guard !admits(key) else { return false }
        waiting.insert(key)
        return true
    }

    /// Makes an attempt by this name the next action, if the hold waits for the operator, who requested the attempt.
    ///
    /// - Returns: Whether there will be an attempt.
    package mutating func prioritize(_ key: String, now: Instant) -> Bool {
        guard let hold, hold.settings != nil, attempt == nil, waiting.contains(key) else { return false }
        due = now.uptime
        prioritized = key
        return true
    }

    /// Removes a name that is not due any more. If it was to make the attempt, another one makes it.
    package mutating func leave(_ key: String, now: Instant) {
        waiting.remove(key)
        if attempt?.key == key {
            attempt = nil
            due = now.uptime + Self.storePause
        }
    }

    /// Records a failed attempt.
    ///
    /// - Parameter start: The time at which the attempt began.
    /// - Returns: Whether the failure concerns the CA as a whole, so that it is not the name's.
    package mutating func failed(
        _ failure: ACMEFailure,
        by key: String,
        authority: String,
        since start: NIODeadline,
        now: Instant,
        random: UInt64
    ) -> Bool {
        guard failure.concernsAuthority else {
            succeeded(by: key, now: now)
            return false
        }
        // The CA has served another name since, and just now.
        if failure.code != .rateLimited, let lastSuccess, lastSuccess > start,
            now.uptime - lastSuccess < Self.freshness
        {
            leave(key, now: now)
            return false
        }
        guard hold == nil || attempt?.key == key else { return true }
        let pause = pause(failure, now, random)
        let error = RenewalState.LastError(failure, authority: authority, at: now.wall)
        hold = AuthorityHold(
            error,
            pause: pause,
            settings: failure.retry == .afterADay ? settings : nil,
            replacing: hold
        )
        due = now.uptime + .seconds(pause)
        attempt = nil
        isClaiming = false
        lastFailed = key
        stopReleasing()
        return true
    }

    private func pause(_ failure: ACMEFailure, _ now: Instant, _ random: UInt64) -> Int64 {
        let own = timing.pause + Int64(random % UInt64(max(1, timing.pause / 5)))
        if failure.retry == .afterADay { return Timing.longestPause }
        guard case .notBefore(let time) = failure.retry else { return own }
        let asked = max(1, time - now.wall)
        return min(failure.code == .rateLimited ? asked : max(asked, own), Timing.longestPause)
    }

    /// Records that the CA has accepted the order of a name, or has rejected it for a reason of the name's.
    package mutating func succeeded(by key: String, now: Instant) {
        lastSuccess = now.uptime
        guard let hold else { return }
        // The progress of an earlier order is no sign that a limit of new ones has ended.
        guard hold.error.code != ACMEFailure.Code.rateLimited.rawValue || attempt?.key == key else { return }
        schedule(.opened(seconds: max(0, now.wall - hold.since), waiting: waiting.count), now.uptime)
        open(now)
    }

    private mutating func open(_ now: Instant) {
        hold = nil
        attempt = nil
        isClaiming = false
        // Sets have a random order in each process, so that replicas begin with different names.
        released += waiting
        waiting = []
        releaseSize = max(1, released.count / max(1, Int(timing.spread)))
        nextRelease = now.uptime
    }

    private mutating func stopReleasing() {
        waiting.formUnion(released)
        released = []
    }

    // MARK: The record

    /// Lets the record be read, because another replica may have changed it.
    package mutating func changed() { isOutdated = true }

    package mutating func loaded(_ record: AuthorityHold?, version: UInt64?, now: Instant) {
        isOutdated = false
        defer { isKnown = true }
        guard let record, let version else {
            if !isKnown, hold == nil {
                open(now)
                releaseSize = max(1, released.count)
            }
            guard stored != nil else { return }
            stored = nil
            // Another replica has removed the record.
            if hold != nil {
                isReportedClosed = false
                report = nil
                open(now)
            }
            return
        }
        guard stored?.version != version else { return }
        guard (record.settings ?? settings) == settings else {
            // The operator has changed what the hold waits for; the record is removed.
            stored = (record, version)
            open(now)
            return
        }
        if stored == nil {
            isReportedClosed = true
            report = nil
        }
        stored = (record, version)
        hold = record
        attempt = nil
        isClaiming = false
        due = now.uptime + .seconds(min(record.pause, max(0, record.notBefore - now.wall)))
        stopReleasing()
    }

    package mutating func written(version: UInt64, now: Instant, random: UInt64) {
        guard let written = writing.take() else { preconditionFailure("nothing was to be written") }
        if stored == nil, hold != nil { schedule(.closed(written, waiting: 0), now.uptime + Self.reportDelay) }
        stored = (written, version)
        guard isClaiming, hold == written else { return }
        isClaiming = false
        var candidates = waiting
        if let lastFailed, candidates.count > 1 { candidates.remove(lastFailed) }
        guard !candidates.isEmpty else { return }
        let index = candidates.index(candidates.startIndex, offsetBy: Int(random % UInt64(candidates.count)))
        let key = prioritized.take().flatMap { waiting.contains($0) ? $0 : nil } ?? candidates[index]
        waiting.remove(key)
        attempt = (key, now.uptime + .seconds(timing.claim))
        woken = key
    }

    package mutating func conflicted() {
        writing = nil
        isOutdated = true
    }

    package mutating func removed() { stored = nil }

    /// Records that the store could not be used. The hold is in effect in this process in any case.
    package mutating func storeFailed(now: Instant) {
        writing = nil
        storeNotBefore = now.uptime + Self.storePause
    }

    // MARK: Actions

    package mutating func next(now: Instant) -> Action {
        if let key = woken.take() { return .wake([key]) }
        if let attempt, now.uptime >= attempt.end { self.attempt = nil }
        if now.uptime >= storeNotBefore, let action = synchronise(now) { return action }
        if let (report, due) = report, now.uptime >= max(due, nextReport) {
            self.report = nil
            let isClosed = if case .closed = report { true } else { false }
            if isClosed != isReportedClosed {
                isReportedClosed = isClosed
                nextReport = now.uptime + .seconds(timing.report)
                return .report(counted(report))
            }
        }
        if !released.isEmpty, now.uptime >= nextRelease {
            let batch = Array(released.suffix(releaseSize))
            released.removeLast(batch.count)
            nextRelease = now.uptime + .seconds(1)
            return .wake(batch)
        }
        return .wait(until: nextDeadline(now))
    }

    /// Returns the next operation on the store, or `nil` if none is due.
    private mutating func synchronise(_ now: Instant) -> Action? {
        if isOutdated { return .load }
        if hold != stored?.hold {
            guard let hold else { return stored.map { .remove(version: $0.version) } }
            writing = hold
            return .write(hold, replacing: stored?.version)
        }
        guard var claim = hold, attempt == nil, !waiting.isEmpty, now.uptime >= due else { return nil }
        claim.pause = timing.claim
        claim.notBefore = now.wall + timing.claim
        due = now.uptime + .seconds(timing.claim)
        hold = claim
        writing = claim
        isClaiming = true
        return .write(claim, replacing: stored?.version)
    }

    private func nextDeadline(_ now: Instant) -> NIODeadline? {
        var deadlines: [NIODeadline] = []
        if isOutdated || hold != stored?.hold { deadlines.append(storeNotBefore) }
        if let attempt {
            deadlines.append(attempt.end)
        } else if hold != nil, !waiting.isEmpty {
            deadlines.append(max(due, storeNotBefore))
        }
        if let report { deadlines.append(max(report.due, nextReport)) }
        if !released.isEmpty { deadlines.append(nextRelease) }
        return deadlines.min()
    }

    private mutating func schedule(_ report: Report, _ due: NIODeadline) { self.report = (report, due) }

    private func counted(_ report: Report) -> Report {
        guard case .closed(let hold, _) = report else { return report }
        return .closed(self.hold ?? hold, waiting: waitingCount)
    }
}
