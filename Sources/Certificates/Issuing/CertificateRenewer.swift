import Formats
import NIOCore
import Store
import Synchronization

/// Looks after one certificate: has it ordered, renewed, and its state shown. Every replica has a keeper for it; a lease
/// decides which one acts, and it is taken only when there is something to do.
final class CertificateRenewer: Sendable {
    /// Longest pause between two looks, whatever was planned: clocks are set, and suspended machines wake up.
    private static let longestPause: Int64 = 3_600
    /// After trouble with the store, doubled each time up to an hour: a CA is not asked again and again for what cannot
    /// be kept.
    private static let troublePause = Duration.seconds(5)
    private static let troubleDoublings = 9
    /// Until a minute with a new budget has surely begun.
    private static let budgetPause = Duration.seconds(60)

    let key: StoreKey
    let names: [CertificateName]
    let isOnDemand: Bool
    let shared: Shared
    /// Somebody runs it.
    let hasStarted = Atomic(false)

    /// What the keepers of a process have in common.
    struct Shared: Sendable {
        let settings: RenewalSettings
        let store: any Store
        let records: RenewalRecords
        let transport: any AuthorityTransport
        let presenter: any ChallengePresenter
        let desk: ACMEDirectoryCache
        /// Orders and questions under way at a time; those on demand have their own, so that however many hosts come,
        /// the configured names have their turn.
        let slots: AsyncSemaphore
        let slotsOnDemand: AsyncSemaphore
        let budget: OnDemandBudget
        let tell: @Sendable (RenewalEvent) -> Void
    }

    struct State {
        var status: RenewalStatus
        var told: IssuanceError?
        var wishes = PendingRenewals()
        /// Nobody looks after it any more.
        var isOver = false
    }

    let wake = AsyncSignal()
    let state: Mutex<State>

    init(key: StoreKey, names: [CertificateName], isOnDemand: Bool, shared: Shared) {
        self.key = key
        self.names = names
        self.isOnDemand = isOnDemand
        self.shared = shared
        let status = RenewalStatus(key: key, names: names, isOnDemand: isOnDemand, failures: 0, isOrdering: false)
        state = Mutex(State(status: status))
    }

    var status: RenewalStatus { state.withLock { $0.status } }

    /// Something changed in the store, or in what agents bring.
    func look() { wake.send() }

    // MARK: Life

    /// Until the task is cancelled; for a host on demand also until nobody serves it any more.
    func run() async {
        let end = await follow()
        state.withLock { $0.isOver = true }
        answer(end)
    }

    /// Returns what those hear who still wait.
    private func follow() async -> RenewalOutcome {
        var troubles = 0
        while !Task.isCancelled {
            do throws(IssuanceError) {
                let situation = try await situation()
                switch decision(situation) {
                case .idle(let until):
                    // Nobody waits for what is not tried now.
                    if situation.isForced { answer(.held(until: until, reason: Self.reason(situation))) }
                    end(&troubles)
                    await wake.wait(atMost: pause(until))
                case .order where isOnDemand && !isWanted:
                    return .trouble("no agent that is attached serves \(names[0]), or another certificate covers it")
                case .order where isOnDemand && !shared.budget.hasRoom: await wake.wait(atMost: Self.budgetPause)
                case .order, .askForWindow:
                    try await act()
                    end(&troubles)
                }
            } catch {
                if !Task.isCancelled, !error.isFenced { tell(error) }
                await wake.wait(atMost: Self.troublePause * (1 << min(troubles, Self.troubleDoublings)))
                troubles += 1
            }
        }
        return .trouble("the gateway ends")
    }

    private func end(_ troubles: inout Int) {
        troubles = 0
        state.withLock { $0.told = nil }
    }

    private var isWanted: Bool { shared.settings.onDemand?.allows(names[0]) ?? false }

    private func pause(_ until: UnixTime) -> Duration {
        let now = shared.desk.now(at: status.authority ?? shared.settings.directories[0], Instant.now.wall)
        return .seconds(min(max(1, until - now), Self.longestPause))
    }

    private func tell(_ trouble: IssuanceError) {
        let isNew = state.withLock { state in
            defer { state.told = trouble }
            return state.told != trouble
        }
        if isNew { shared.tell(.trouble(names: names, trouble)) }
    }

    // MARK: Looking

    /// What the store says now.
    func situation() async throws(IssuanceError) -> CertificateSituation {
        let known = try await shared.records.state(of: key)
        let finding: CertificateSet.Finding
        do throws(StoreError) {
            finding = try await CertificateSet.newest(key, in: shared.store, check: { _ in })
        } catch {
            throw IssuanceError(error)
        }
        var situation = CertificateSituation(
            names: names,
            facts: finding.certificate.map { CertificateFacts($0) },
            issuer: finding.authority,
            state: known
        )
        situation.isForced = state.withLock { $0.wishes.isUnfulfilled(by: situation.facts?.id) }
        show(situation)
        // Whoever asked for a new one has it, from whichever replica.
        if !situation.isForced, let facts = situation.facts { answer(.issued(notAfter: facts.notAfter)) }
        return situation
    }

    private func show(_ situation: CertificateSituation) {
        var next: UnixTime?
        let isDue = situation.isDue(authorities: shared.settings.directories, now: now(situation))
        if isDue, case .idle(let until) = decision(situation) { next = until }
        state.withLock { state in
            state.status.authority = situation.issuer
            state.status.nextRenewal = situation.renewal?.at
            state.status.explanation = situation.renewal?.explanation
            state.status.lastError = situation.state.lastError
            state.status.failures = situation.state.failures
            state.status.nextTry = next
        }
    }

    func decision(_ situation: CertificateSituation) -> RenewalDecision {
        situation.decision(
            authorities: shared.settings.directories,
            settings: shared.settings.fingerprint(names),
            now: now(situation)
        )
    }

    func now(_ situation: CertificateSituation) -> UnixTime {
        shared.desk.now(at: situation.issuer ?? shared.settings.directories[0], Instant.now.wall)
    }

    private static func reason(_ situation: CertificateSituation) -> String {
        situation.state.lastError?.message ?? "the CA allows no attempt"
    }

    // MARK: Wishes

    /// Asks for a new certificate now.
    func renew(_ done: @escaping @Sendable (RenewalOutcome) -> Void) {
        enum Answer { case taken, over, full }
        let answer = state.withLock { state -> Answer in
            if state.isOver { return .over }
            return state.wishes.add(done) ? .taken : .full
        }
        switch answer {
        case .taken: wake.send()
        case .over: done(.trouble("nobody looks after \(names[0]) any more; ask again"))
        case .full: done(.trouble("too many wait for this certificate already"))
        }
    }

    func answer(_ outcome: RenewalOutcome) {
        state.withLock { $0.wishes.takeAll() }.forEach { $0(outcome) }
    }
}
