package import Dates
import NIOCore
import Store
import Synchronization

/// Looks after one certificate: has it ordered, renewed, and its state shown. Every replica has a keeper for it; a lease
/// decides which one acts, and it is taken only when there is something to do.
final class CertificateKeeper: Sendable {
    /// Longest pause between two looks, whatever was planned: clocks are set, and suspended machines wake up.
    private static let longestPause: Int64 = 3_600
    /// After trouble with the store.
    private static let troublePause = Duration.seconds(5)
    /// While somebody else has the lease and may be about to be done.
    private static let waitingPause = Duration.seconds(2)

    let key: StoreKey
    let names: [CertificateName]
    let isOnDemand: Bool
    let shared: Shared

    /// What the keepers of a process have in common.
    struct Shared: Sendable {
        let settings: IssuingSettings
        let store: any Store
        let records: IssuingRecords
        let transport: any AuthorityTransport
        let presenter: any ChallengePresenter
        let desk: AuthorityDesk
        /// Orders under way at a time.
        let slots: Slots
        /// For names on demand.
        let mayOrder: @Sendable (CertificateName) -> IssuanceBudget.Answer
        let hasOrdered: @Sendable (CertificateName) -> Void
        let tell: @Sendable (IssuingEvent) -> Void
    }

    private struct State {
        var status: IssuingStatus
        var told: IssuingTrouble?
        /// Somebody asked for a new certificate; who waits for the outcome.
        var wishes: [@Sendable (RenewalOutcome) -> Void] = []
        /// The certificate that was there when it was asked.
        var unwanted: String?
    }

    private let wake = Wake()
    private let state: Mutex<State>

    init(key: StoreKey, names: [CertificateName], isOnDemand: Bool, shared: Shared) {
        self.key = key
        self.names = names
        self.isOnDemand = isOnDemand
        self.shared = shared
        state = Mutex(
            State(
                status: IssuingStatus(
                    key: key,
                    names: names,
                    isOnDemand: isOnDemand,
                    failures: 0,
                    isOrdering: false
                )
            )
        )
    }

    var status: IssuingStatus { state.withLock { $0.status } }

    /// Something changed in the store, or in what agents bring.
    func look() { wake.send() }

    /// Asks for a new certificate now.
    func renew(_ done: @escaping @Sendable (RenewalOutcome) -> Void) {
        let isTaken = state.withLock { state in
            guard state.wishes.count < 64 else { return false }
            state.wishes.append(done)
            return true
        }
        guard isTaken else { return done(.trouble("too many wait for this certificate already")) }
        wake.send()
    }

    // MARK: Life

    /// Until the task is cancelled; for a name on demand also until nobody wants it any more.
    func run() async {
        defer { answer(.trouble("the gateway ends")) }
        while !Task.isCancelled {
            do throws(IssuingTrouble) {
                let situation = try await situation()
                state.withLock { $0.told = nil }
                switch decision(situation) {
                case .idle(let until):
                    // Nobody waits for what is not tried now.
                    if situation.isForced { answerHeld(until, situation) }
                    await wake.wait(atMost: pause(until))
                case .order where isOnDemand && !isWanted: return
                case .order, .askForWindow: try await act()
                }
            } catch {
                if !Task.isCancelled, !error.isFenced { tell(error) }
                await wake.wait(atMost: Self.troublePause)
            }
        }
    }

    private var isWanted: Bool { shared.settings.onDemand?.allows(names[0]) ?? false }

    private func pause(_ until: UnixTime) -> Duration {
        let now = shared.desk.now(at: status.authority ?? shared.settings.directories[0], Moment.now.wall)
        return .seconds(min(max(1, until - now), Self.longestPause))
    }

    private func tell(_ trouble: IssuingTrouble) {
        let isNew = state.withLock { state in
            defer { state.told = trouble }
            return state.told != trouble
        }
        if isNew { shared.tell(.trouble(names: names, trouble)) }
    }

    // MARK: Looking

    /// What the store says now.
    private func situation() async throws(IssuingTrouble) -> CertificateSituation {
        let known = try await shared.records.state(of: key)
        let finding: CertificateSet.Finding
        do throws(StoreError) {
            finding = try await CertificateSet.newest(key, in: shared.store, check: { _ in })
        } catch {
            throw IssuingTrouble(error)
        }
        var situation = CertificateSituation(
            names: names,
            facts: finding.certificate.map { CertificateFacts($0) },
            issuer: finding.authority,
            state: known
        )
        state.withLock { state in
            if !state.wishes.isEmpty, state.unwanted == nil { state.unwanted = situation.facts?.id ?? "" }
            // Whoever asked for a new one has it, from whichever replica.
            situation.isForced = !state.wishes.isEmpty && state.unwanted == situation.facts?.id ?? ""
            state.status.authority = situation.issuer
            state.status.nextRenewal = situation.renewal?.at
            state.status.explanation = situation.renewal?.explanation
            state.status.lastError = known.lastError
            state.status.failures = known.failures
            state.status.nextTry = known.nextTry ?? known.holds.values.max()
        }
        if !situation.isForced, let facts = situation.facts { answer(.issued(notAfter: facts.notAfter)) }
        return situation
    }

    private func decision(_ situation: CertificateSituation) -> IssuingDecision {
        situation.decision(
            authorities: shared.settings.directories,
            settings: shared.settings.fingerprint(names),
            now: now(situation)
        )
    }

    private func now(_ situation: CertificateSituation) -> UnixTime {
        shared.desk.now(at: situation.issuer ?? shared.settings.directories[0], Moment.now.wall)
    }

    // MARK: Acting

    /// When it is this certificate's turn: takes the lease, looks again, and does what is due. Returns as soon as nothing
    /// is due any more, or when somebody else is at it for long.
    private func act() async throws(IssuingTrouble) {
        let result = await shared.slots.withSlot { () -> Result<Void, IssuingTrouble> in
            do throws(IssuingTrouble) {
                return .success(try await actInSlot())
            } catch {
                return .failure(error)
            }
        }
        try result?.get()
    }

    private func actInSlot() async throws(IssuingTrouble) {
        guard let lease = try await lease() else { return }
        let result: Result<Void, IssuingTrouble>
        do throws(IssuingTrouble) {
            let situation = try await situation()
            switch decision(situation) {
            case .idle: break
            case .askForWindow(let authority): try await askForWindow(situation, authority, lease)
            case .order(let authority): try await order(situation, authority, lease)
            }
            result = .success(())
        } catch {
            result = .failure(error)
        }
        await lease.release()
        try result.get()
    }

    /// Waits for the lease for as long as there is something to do: another replica may be doing it. Nil: there is not.
    private func lease() async throws(IssuingTrouble) -> (any StoreLease)? {
        enum Event: Sendable {
            case lease(Result<any StoreLease, StoreError>)
            case nothingToDo
            case trouble(IssuingTrouble)
        }
        let (key, shared) = (key, shared)
        let event = await withTaskGroup(of: Event.self) { group in
            group.addTask {
                do throws(StoreError) {
                    let lease = try await CertificateSet.lease(of: key, in: shared.store) { options in
                        options.timeToLive = shared.settings.leaseTime
                        // Long enough to see that its holder is dead. Then others have their turn.
                        options.patience = .nanoseconds(shared.settings.leaseTime.nanoseconds * 2) + .seconds(5)
                    }
                    return .lease(.success(lease))
                } catch {
                    return .lease(.failure(error))
                }
            }
            group.addTask {
                while !Task.isCancelled {
                    await self.wake.wait(atMost: Self.waitingPause)
                    do throws(IssuingTrouble) {
                        if case .idle = self.decision(try await self.situation()) { return .nothingToDo }
                    } catch {
                        return .trouble(error)
                    }
                }
                return .nothingToDo
            }
            let first = await group.next() ?? .nothingToDo
            group.cancelAll()
            for await other in group {
                // It came in the same moment.
                if case .lease(.success(let lease)) = other { await lease.release() }
            }
            return first
        }
        switch event {
        case .nothingToDo: return nil
        case .trouble(let trouble): throw trouble
        case .lease(let result):
            do throws(StoreError) {
                return try result.get()
            } catch {
                guard error.code == .stalled, shared.store.state == .healthy else { throw IssuingTrouble(error) }
                return nil
            }
        }
    }

    private func order(
        _ situation: CertificateSituation,
        _ directory: String,
        _ lease: any StoreLease
    ) async throws(IssuingTrouble) {
        if isOnDemand {
            switch shared.mayOrder(names[0]) {
            case .granted: break
            case .underWay, .exhausted:
                // The next minute has a budget of its own; others may take their turn.
                await lease.release()
                await wake.wait(atMost: .seconds(10))
                return
            }
        }
        defer { if isOnDemand { shared.hasOrdered(names[0]) } }
        state.withLock { $0.status.isOrdering = true }
        defer { state.withLock { $0.status.isOrdering = false } }
        guard let authority = shared.settings.authorities.first(where: { $0.authority.id == directory }) else {
            preconditionFailure("a decision names a CA of the settings")
        }
        let driver = OrderDriver(
            certificate: key,
            trust: authority.trust,
            transport: shared.transport,
            presenter: shared.presenter,
            records: shared.records,
            desk: shared.desk,
            lease: lease,
            isDue: { situation.isDue(now: $0) }
        )
        shared.tell(.ordering(names: names, authority: directory))
        let renewalID = situation.issuer == directory ? situation.facts?.renewalID : nil
        switch await driver.run(shared.settings.plan(names, at: authority, replacing: renewalID)) {
        case .issued(let issued): try await publish(issued, situation, authority, lease)
        case .failed(let failure): try await keep(failure, situation, directory)
        case .notDue: break
        case .interrupted(let trouble): throw trouble
        }
    }

    private func publish(
        _ issued: IssuedCertificate,
        _ situation: CertificateSituation,
        _ authority: IssuingSettings.Authority,
        _ lease: any StoreLease
    ) async throws(IssuingTrouble) {
        let directory = authority.authority.id
        let certificate: ServerCertificate
        do throws(CertificatesError) {
            certificate = try ServerCertificate(
                chain: issued.chainPEM,
                key: issued.keyPEM,
                chainPath: "the certificate of \(directory)",
                keyPath: "its key"
            )
        } catch {
            throw IssuingTrouble("\(error)")
        }
        let generation: Generation
        do throws(StoreError) {
            generation = try await CertificateSet.publish(
                certificate,
                as: key,
                origin: "acme",
                authority: directory,
                in: shared.store,
                under: lease
            )
        } catch {
            // The order stays: whoever comes next downloads the certificate and publishes it.
            throw IssuingTrouble(error)
        }
        var state = RetryPolicy.succeeded(authority: directory, state: situation.state)
        let facts = issued.facts
        state.renewal = RenewalPolicy.plan(facts, name: situation.spreading, stored: nil)
        state.renewal = await asked(authority, facts, situation.spreading, state.renewal)
        let now = shared.desk.now(at: directory, Moment.now.wall)
        state.renewal = state.renewal.map { RenewalPolicy.fresh($0, facts, now: now) }
        try await shared.records.put(state, of: key)
        try await shared.records.removeOrder(of: key)
        shared.tell(.issued(names: names, authority: directory, generation: generation, notAfter: facts.notAfter))
        answer(.issued(notAfter: facts.notAfter))
    }

    private func keep(
        _ failure: ACMEFailure,
        _ situation: CertificateSituation,
        _ directory: String
    ) async throws(IssuingTrouble) {
        let now = shared.desk.now(at: directory, Moment.now.wall)
        let settings = shared.settings.fingerprint(names)
        let state = RetryPolicy.failed(
            failure,
            authority: directory,
            state: situation.state,
            settings: settings,
            now: now,
            random: UInt64.random(in: .min ... .max)
        )
        try await shared.records.put(state, of: key)
        if !failure.keepsOrder { try await shared.records.removeOrder(of: key) }
        var next: UnixTime?
        let authorities = shared.settings.directories
        if case .wait(let until) = RetryPolicy.next(state, authorities: authorities, settings: settings, now: now) {
            next = until
        }
        shared.tell(.failed(names: names, authority: directory, failure, nextTry: next))
        if next != nil { answer(.failed(failure)) }
    }

    // MARK: The CA's window

    private func askForWindow(
        _ situation: CertificateSituation,
        _ directory: String,
        _ lease: any StoreLease
    ) async throws(IssuingTrouble) {
        guard let facts = situation.facts, let renewal = situation.renewal,
            let authority = shared.settings.authorities.first(where: { $0.authority.id == directory })
        else { return }
        let plan = await asked(authority, facts, situation.spreading, renewal)
        guard !Task.isCancelled, plan != situation.state.renewal else { return }
        var state = situation.state
        state.renewal = plan
        try await shared.records.put(state, of: key)
    }

    /// The plan after the CA was asked for a window, or could not be.
    private func asked(
        _ authority: IssuingSettings.Authority,
        _ facts: CertificateFacts,
        _ spreading: String,
        _ plan: RenewalPlan?
    ) async -> RenewalPlan? {
        guard let renewalID = facts.renewalID else { return plan }
        let inquiry = WindowInquiry(
            authority: authority.authority,
            trust: authority.trust,
            transport: shared.transport,
            desk: shared.desk
        )
        let outcome = await inquiry.run(renewalID)
        let now = shared.desk.now(at: authority.authority.id, Moment.now.wall)
        switch outcome {
        case .answer(let info, let pause):
            return RenewalPolicy.plan(
                facts,
                name: spreading,
                stored: plan,
                info: info,
                pause: pause,
                now: now,
                random: UInt64.random(in: .min ... .max)
            )
        case .failed:
            return RenewalPolicy.planAfterFailure(
                plan ?? RenewalPolicy.plan(facts, name: spreading, stored: nil),
                now: now
            )
        case .interrupted: return plan
        }
    }

    // MARK: Wishes

    private func answer(_ outcome: RenewalOutcome) {
        let wishes = state.withLock { state in
            defer {
                state.wishes = []
                state.unwanted = nil
            }
            return state.wishes
        }
        wishes.forEach { $0(outcome) }
    }

    private func answerHeld(_ until: UnixTime, _ situation: CertificateSituation) {
        let reason = situation.state.lastError.map { "\($0.message)" } ?? "the CA allows no attempt"
        answer(.held(until: until, reason: reason))
    }
}

/// What became of a wish for a new certificate.
package enum RenewalOutcome: Equatable, Sendable {
    case issued(notAfter: UnixTime)
    case failed(ACMEFailure)
    /// The CA allows no attempt before then.
    case held(until: UnixTime, reason: String)
    case trouble(String)
}
