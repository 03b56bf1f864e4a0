import ACME
import Formats
import NIOCore
import Store
import Synchronization
import Threads

/// The ``ACME/AuthorityGate`` of each configured CA, shared by all renewers of a process, and the task that drives
/// them.
final class AuthorityGates: Sendable {
    /// The directory URLs of the CAs, each of which has a gate.
    private let authorities: [String]
    private let gates: Mutex<[String: AuthorityGate]>
    private let records: RenewalRecords
    private let directories: ACMEDirectoryCache
    private let errors: ErrorReports
    private let onEvent: @Sendable (RenewalEvent) -> Void
    /// Sent when a gate may have something to do.
    private let signal = AsyncSignal()

    init(
        _ settings: RenewalSettings,
        records: RenewalRecords,
        directories: ACMEDirectoryCache,
        errors: ErrorReports,
        onEvent: @escaping @Sendable (RenewalEvent) -> Void
    ) {
        let gates = settings.authorities.map { authority in
            let fingerprint = Fingerprint.of(authority.parts.joined(separator: "\n"))
            return (authority.authority.id, AuthorityGate(settings.gateTiming, settings: fingerprint))
        }
        authorities = Set(gates.map(\.0)).sorted()
        self.gates = Mutex(Dictionary(gates) { first, _ in first })
        self.records = records
        self.directories = directories
        self.errors = errors
        self.onEvent = onEvent
    }

    // MARK: Names

    /// Returns the CAs from which this name may not be ordered now.
    func closed(for key: StoreKey) -> Set<String> {
        gates.withLock { gates in Set(gates.filter { !$0.value.admits(key.name) }.keys) }
    }

    /// The holds in effect, by directory URL.
    var holds: [String: AuthorityHold] { gates.withLock { $0.compactMapValues(\.hold) } }

    /// Lets a name wait for the CAs that are closed. Returns `false` if one of them has opened meanwhile.
    func wait(_ key: StoreKey, for closed: Set<String>) -> Bool {
        defer { signal.send() }
        return gates.withLock { gates in
            for authority in closed where gates[authority]?.wait(key.name) == false { return false }
            return true
        }
    }

    /// Lets a name for which the operator has requested an attempt make it now, where a hold waits for the operator.
    ///
    /// - Returns: Whether there will be an attempt.
    func prioritize(_ key: StoreKey) -> Bool {
        let isPrioritized = authorities.contains { update($0) { $0.prioritize(key.name, now: $1) } }
        if isPrioritized { signal.send() }
        return isPrioritized
    }

    /// Removes a name that is not due any more.
    func leave(_ key: StoreKey) {
        for authority in authorities { update(authority) { $0.leave(key.name, now: $1) } }
    }

    /// Records a failure. Returns whether it concerns the CA as a whole, so that it is no failure of the name.
    func failed(_ failure: ACMEFailure, by key: StoreKey, at authority: String, since start: NIODeadline) -> Bool {
        defer { signal.send() }
        return update(authority) { gate, now in
            gate.failed(
                failure,
                by: key.name,
                authority: authority,
                since: start,
                now: now,
                random: .random(in: .min ... .max)
            )
        }
    }

    /// Records that a CA has accepted an order.
    func succeeded(by key: StoreKey, at authority: String) {
        let wasClosed = update(authority) { gate, now in
            defer { gate.succeeded(by: key.name, now: now) }
            return gate.hold != nil
        }
        if wasClosed { signal.send() }
    }

    // MARK: The task

    /// Drives the gates until the task is cancelled. Called once.
    ///
    /// - Parameter wake: Called with the last components of the keys of the names that may decide again.
    func run(wake: ([String]) -> Void) async {
        let watch = records.store.watch(.below(RenewalRecords.authorities)) { [weak self] batch in
            if !batch.changes.isEmpty { self?.observe(batch.changes) }
            return []
        }
        defer { watch.cancel() }
        while !Task.isCancelled {
            var next: NIODeadline?
            for authority in authorities {
                guard let due = await drive(authority, wake) else { continue }
                next = min(next ?? due, due)
            }
            await signal.wait(until: next)
        }
    }

    private func observe(_ changes: [WatchedChange]) {
        let names = Set(changes.map(\.key.name))
        for authority in authorities where names.contains(Fingerprint.of(authority)) {
            update(authority) { gate, _ in gate.changed() }
        }
        signal.send()
    }

    /// Performs the actions of one gate.
    ///
    /// - Returns: The time of the next action, or `nil` if it depends on a report.
    private func drive(_ authority: String, _ wake: ([String]) -> Void) async -> NIODeadline? {
        while !Task.isCancelled {
            switch update(authority, { $0.next(now: $1) }) {
            case .wait(let until): return until
            case .wake(let keys): wake(keys)
            case .report(.closed(let hold, let waiting)):
                onEvent(.authorityClosed(authority: authority, hold, waiting: waiting))
            case .report(.opened(let seconds, let waiting)):
                onEvent(.authorityOpened(authority: authority, seconds: seconds, waiting: waiting))
            case .load:
                await access(authority) { () throws(StoreError) in
                    let stored = try await self.records.holdRemovingDamage(at: authority)
                    self.update(authority) { $0.loaded(stored?.hold, version: stored?.version, now: $1) }
                }
            case .write(let hold, let version):
                await access(authority) { () throws(StoreError) in
                    let version = try await self.records.write(hold, at: authority, replacing: version)
                    self.update(authority) { $0.written(version: version, now: $1, random: .random(in: .min ... .max)) }
                }
            case .remove(let version):
                await access(authority) { () throws(StoreError) in
                    try await self.records.removeHold(at: authority, version: version)
                    self.update(authority) { gate, _ in gate.removed() }
                }
            }
        }
        return nil
    }

    private func access(_ authority: String, _ body: () async throws(StoreError) -> Void) async {
        do throws(StoreError) {
            try await body()
        } catch {
            // No name is ordered before the hold is known.
            if !error.isConflict, !error.isTransient { errors.record(error, for: []) }
            update(authority) { error.isConflict ? $0.conflicted() : $0.storeFailed(now: $1) }
        }
    }

    @discardableResult
    private func update<Result>(_ authority: String, _ body: (inout AuthorityGate, Instant) -> Result) -> Result {
        let now = Instant(uptime: .now(), wall: directories.serverTime(at: authority))
        return gates.withLock { gates in
            guard var gate = gates[authority] else { preconditionFailure("every configured CA has a gate") }
            defer { gates[authority] = gate }
            return body(&gate, now)
        }
    }
}
