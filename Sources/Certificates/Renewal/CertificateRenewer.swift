import ACME
import Formats
import NIOCore
import Store
import Synchronization
import Threads

/// The task that obtains and renews one certificate, and reports its state.
///
/// Every replica runs one renewer for each certificate; ``CertificateIssuer`` creates them and calls ``run()`` once.
/// A pass of the loop reads what the store knows (``readSituation()``), decides by a pure function
/// (``CertificateSituation/decision(authorities:settings:closed:now:)``), and either waits or acts:
///
/// 1. It waits for one of the process's permits, and for the lease of the certificate. If another replica holds the
///    lease and does the work meanwhile, the pass ends here.
/// 2. It reads the store and decides again, since the lease may have taken a while.
/// 3. It orders a certificate with an ``OrderDriver``, publishes it and stores the outcome
///    (`CertificateRenewer+Order.swift`), or asks the CA for its renewal window.
///
/// ``wake()`` ends a wait early, for example because another replica has changed the store. ``renew(_:)`` requests a
/// new certificate and may be called from any thread. What the task shares with its callers is in ``RenewerState``.
final class CertificateRenewer: Sendable {
    /// The longest pause between two passes in seconds, regardless of the plan, because clocks may jump and machines
    /// may be suspended.
    private static let longestPause: Int64 = 3_600

    /// The time after which a requested attempt that has not begun is requested again.
    private static let requestPause = Duration.seconds(10)

    let key: StoreKey
    let names: [CertificateName]
    let isOnDemand: Bool
    let shared: Shared

    /// The resources that all renewers of a process share.
    struct Shared: Sendable {
        let settings: RenewalSettings
        let certificates: CertificateSet
        let records: RenewalRecords
        let transport: any ACMETransport
        let presenter: any ChallengePresenter
        let directories: ACMEDirectoryCache
        let gates: AuthorityGates
        /// The limit of concurrent orders and requests. Certificates on demand have their own, so that they cannot
        /// delay the configured ones, however many hosts there are.
        let permits: AsyncSemaphore
        let permitsOnDemand: AsyncSemaphore
        let errors: ErrorReports
        let onEvent: @Sendable (RenewalEvent) -> Void

        var store: any Store { certificates.store }

        /// The time to live of the lease of a certificate, and the time to wait for it: long enough to detect that its
        /// holder is dead. Then other certificates get the permit.
        func leaseTimes(_ options: inout LeaseOptions) {
            options.timeToLive = settings.leaseTime
            options.patience = settings.leaseTime + settings.leaseTime + .seconds(5)
        }

        func client(of authority: RenewalSettings.Authority) -> ACMEClient {
            ACMEClient(authority, transport: transport, records: records, directories: directories)
        }
    }

    let signal = AsyncSignal()
    private let state = Mutex(RenewerState())
    private let currentStatus: Mutex<RenewalStatus>

    init(key: StoreKey, names: [CertificateName], isOnDemand: Bool, shared: Shared) {
        self.key = key
        self.names = names
        self.isOnDemand = isOnDemand
        self.shared = shared
        currentStatus = Mutex(RenewalStatus(key: key, names: names, isOnDemand: isOnDemand))
    }

    /// The state as it is displayed.
    var status: RenewalStatus { currentStatus.withLock { $0 } }

    func updateStatus(_ change: (inout RenewalStatus) -> Void) { currentStatus.withLock { change(&$0) } }

    /// Starts a pass at once, because the store or the served hosts have changed.
    func wake() { signal.send() }

    // MARK: The loop

    /// Runs until the task is cancelled. For a host on demand it also returns once an order is due and no attached
    /// agent offers the host, or another certificate covers it. A second call has no effect.
    ///
    /// - Returns: Whether this call ran the loop.
    func run() async -> Bool {
        guard state.withLock({ $0.start() }) else { return false }
        let outcome = await loop()
        state.withLock { $0.stop() }.forEach { $0(outcome) }
        return true
    }

    /// Returns the outcome for the requests that are still pending at the end.
    private func loop() async -> RenewalOutcome {
        while !Task.isCancelled {
            do throws(StoreError) {
                signal.clear()
                let situation = try await readSituation()
                switch decide(situation) {
                case .idle(let until):
                    shared.gates.leave(key)
                    await rest(situation, until: until, situation.state.lastError)
                case .blocked(let until):
                    let closed = shared.gates.closed(for: key)
                    guard shared.gates.wait(key, for: closed) else { continue }
                    let hold = shared.gates.holds.filter { closed.contains($0.key) }.values
                        .min { $0.notBefore < $1.notBefore }
                    // The request is completed by the attempt that it causes.
                    if situation.isRequested, shared.gates.prioritize(key) {
                        await signal.wait(atMost: Self.requestPause)
                    } else {
                        await rest(situation, until: min(until, hold?.notBefore ?? until), hold?.error, wakes: until)
                    }
                case .order where isOnDemand && !isAllowed:
                    shared.gates.leave(key)
                    return .error("no attached agent offers exactly \(names[0]), or another certificate covers it")
                case .order, .fetchRenewalInfo:
                    try await act(situation)
                    state.withLock { $0.succeeded() }
                }
            } catch {
                shared.gates.leave(key)
                shared.errors.record(error, for: names)
                await signal.wait(atMost: state.withLock { $0.failed() })
            }
        }
        return .error("the gateway is shutting down")
    }

    /// Waits until something may be due, or until ``wake()``.
    ///
    /// - Parameters:
    ///   - until: The time of the next attempt, for the requests that are pending.
    ///   - error: The reason why there is no attempt now.
    ///   - wakes: The time at which this name decides again, if that is another one.
    private func rest(
        _ situation: CertificateSituation,
        until: UnixTime,
        _ error: RenewalState.LastError?,
        wakes: UnixTime? = nil
    ) async {
        // Before the records of the CAs are read, no time is known, and requests wait.
        if situation.isRequested, until < .latest {
            completeRequests(.held(until: until, reason: error?.message ?? "the CA allows no attempt"))
        }
        state.withLock { $0.succeeded() }
        await signal.wait(atMost: pause(wakes ?? until))
    }

    private var isAllowed: Bool { shared.settings.onDemand.map { $0.eligibility(names[0]) != .refused } ?? false }

    private func pause(_ until: UnixTime) -> Duration {
        let authority = status.authority ?? shared.settings.directories[0]
        let now = shared.directories.serverTime(at: authority)
        return .seconds(min(max(1, until - now), Self.longestPause))
    }

    /// Performs what is due, with a permit and under the lease of the certificate. Returns without an effect if nothing
    /// is due any more, or if another replica holds the lease for long.
    private func act(_ situation: CertificateSituation) async throws(StoreError) {
        let permits = isOnDemand ? shared.permitsOnDemand : shared.permits
        _ = try await permits.withPermit { () async throws(StoreError) in
            // The CA may have failed while this name waited.
            guard decide(situation).isAction, let lease = try await acquireLease() else { return }
            try await lease.perform { () throws(StoreError) in
                let situation = try await readSituation()
                switch decide(situation) {
                case .idle, .blocked: break
                case .fetchRenewalInfo(let authority): try await fetchRenewalInfo(situation, authority, lease)
                case .order(let authority): try await order(situation, authority, lease)
                }
            }
        }
    }

    // MARK: The situation

    /// Reads the certificate and its state from the store, updates the status, and completes pending requests whose
    /// certificate exists.
    func readSituation() async throws(StoreError) -> CertificateSituation {
        let known = try await shared.records.state(of: key)
        let finding: CertificateSet.Finding
        do {
            finding = try await shared.certificates.read(key)
        } catch {
            // A damaged file is replaced, like a certificate that cannot be used.
            guard error.code == .corrupt || error.code == .tooLarge else { throw error }
            finding = CertificateSet.Finding()
        }
        if let problem = finding.rejection, problem.storeCode == .newerFormat {
            throw StoreError(.newerFormat, problem.path, problem.reason)
        }
        var situation = CertificateSituation(
            names: names,
            facts: finding.certificate.map { CertificateFacts($0) },
            issuer: finding.authority,
            state: known
        )
        situation.isRequested = state.withLock { $0.hasRequest(beyond: situation.facts?.id) }
        show(situation)
        // The requested certificate is there, whichever replica ordered it.
        if !situation.isRequested, let facts = situation.facts { completeRequests(.issued(notAfter: facts.notAfter)) }
        return situation
    }

    private func show(_ situation: CertificateSituation) {
        var next: UnixTime?
        var error = situation.state.lastError
        let isDue = situation.isDue(authorities: shared.settings.directories, now: now(situation))
        let decision = decide(situation)
        switch decision {
        case .idle(let until) where isDue: next = until
        case .blocked(let until):
            let holds = shared.gates.holds
            let hold = shared.settings.directories.lazy.compactMap { holds[$0] }.first
            next = hold?.notBefore ?? until
            if let known = next { next = known == .latest ? nil : min(until, known) }
            error = hold?.error ?? error
        default: break
        }
        updateStatus { status in
            status.authority = situation.issuer
            status.nextRenewal = situation.renewal?.at
            status.explanation = situation.renewal?.explanation
            status.lastError = error
            status.failures = situation.state.failures
            status.nextTry = next
            if !decision.isAction { status.leaseWait = nil }
        }
    }

    func decide(_ situation: CertificateSituation) -> RenewalDecision {
        situation.decision(
            authorities: shared.settings.directories,
            settings: shared.settings.fingerprint(names),
            closed: shared.gates.closed(for: key),
            now: now(situation)
        )
    }

    private func now(_ situation: CertificateSituation) -> UnixTime {
        let authority = situation.issuer ?? shared.settings.directories[0]
        return shared.directories.serverTime(at: authority)
    }

    // MARK: Requests

    /// Requests a new certificate now, regardless of the age of the present one.
    ///
    /// - Parameter completion: Called once with the outcome, from any thread.
    func renew(_ completion: @escaping @Sendable (RenewalOutcome) -> Void) {
        switch state.withLock({ $0.add(completion) }) {
        case .wake: signal.send()
        case .reject(.stopped): completion(.error("\(names[0]) is no longer managed; request it again"))
        case .reject(.full): completion(.error("too many requests for this certificate are pending"))
        }
    }

    func completeRequests(_ outcome: RenewalOutcome) {
        state.withLock { $0.removeRequests() }.forEach { $0(outcome) }
    }
}
