import Formats
import NIOCore
import Store
import Synchronization

/// Taking the lease, and doing under it what is due.
extension CertificateRenewer {
    /// While somebody else has the lease and may be about to be done.
    private static let waitingPause = Duration.seconds(2)

    /// When it is this certificate's turn: takes the lease, looks again, and does what is due. Returns as soon as nothing
    /// is due any more, or when somebody else is at it for long.
    func act() async throws(IssuanceError) {
        let slots = isOnDemand ? shared.slotsOnDemand : shared.slots
        let result = await slots.withSlot { () -> Result<Void, IssuanceError> in
            do throws(IssuanceError) {
                return .success(try await actInSlot())
            } catch {
                return .failure(error)
            }
        }
        try result?.get()
    }

    private func actInSlot() async throws(IssuanceError) {
        guard let lease = try await lease() else { return }
        let result: Result<Void, IssuanceError>
        do throws(IssuanceError) {
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

    // MARK: The lease

    private enum Waited: Sendable {
        case lease(Result<any StoreLease, StoreError>)
        case nothingToDo
        case trouble(IssuanceError)
    }

    /// Waits for the lease for as long as there is something to do: another replica may be doing it. Nil: there is not, or
    /// it takes long.
    private func lease() async throws(IssuanceError) -> (any StoreLease)? {
        let waited = await withTaskGroup(of: Waited.self) { group in
            group.addTask { await self.takeLease() }
            group.addTask { await self.waitForNothingToDo() }
            let first = await group.next() ?? .nothingToDo
            group.cancelAll()
            for await other in group {
                // It came in the same moment.
                if case .lease(.success(let lease)) = other { await lease.release() }
            }
            return first
        }
        switch waited {
        case .nothingToDo: return nil
        case .trouble(let trouble): throw trouble
        case .lease(.success(let lease)): return lease
        case .lease(.failure(let error)):
            guard error.code == .stalled, shared.store.state == .healthy else { throw IssuanceError(error) }
            return nil
        }
    }

    private func takeLease() async -> Waited {
        let time = shared.settings.leaseTime
        do throws(StoreError) {
            let lease = try await CertificateSet.lease(of: key, in: shared.store) { options in
                options.timeToLive = time
                // Long enough to see that its holder is dead. Then others have their turn.
                options.patience = .nanoseconds(time.nanoseconds * 2) + .seconds(5)
            }
            return .lease(.success(lease))
        } catch {
            return .lease(.failure(error))
        }
    }

    private func waitForNothingToDo() async -> Waited {
        while !Task.isCancelled {
            await wake.wait(atMost: Self.waitingPause)
            do throws(IssuanceError) {
                if case .idle = decision(try await situation()) { return .nothingToDo }
            } catch {
                return .trouble(error)
            }
        }
        return .nothingToDo
    }

    // MARK: An order

    private func order(
        _ situation: CertificateSituation,
        _ directory: String,
        _ lease: any StoreLease
    ) async throws(IssuanceError) {
        // Another host took the last order of this minute; the next look waits for the next minute.
        if isOnDemand, !shared.budget.take(names[0]) { return }
        defer { if isOnDemand { shared.budget.giveBack(names[0]) } }
        state.withLock { $0.status.isOrdering = true }
        defer { state.withLock { $0.status.isOrdering = false } }
        guard let authority = shared.settings.authorities.first(where: { $0.authority.id == directory }) else {
            preconditionFailure("a decision names a CA of the settings")
        }
        let directories = shared.settings.directories
        let driver = OrderDriver(
            certificate: key,
            trust: authority.trust,
            transport: shared.transport,
            presenter: shared.presenter,
            records: shared.records,
            desk: shared.desk,
            lease: lease,
            isDue: { situation.isDue(authorities: directories, now: $0) }
        )
        shared.tell(.ordering(names: names, authority: directory))
        let renewalID = situation.issuer == directory ? situation.facts?.renewalID : nil
        let plan = shared.settings.plan(names, at: authority, replacing: renewalID, after: situation.state)
        switch await driver.run(plan) {
        // The order of the present certificate was left behind: a new one follows.
        case .issued(let issued) where issued.facts.id == situation.facts?.id:
            try await shared.records.removeOrder(of: key, under: lease)
        case .issued(let issued): try await publish(issued, situation, authority, lease)
        case .failed(let failure): try await record(failure, situation, directory, lease)
        case .notDue: break
        case .interrupted(let trouble): throw trouble
        }
    }

    private func publish(
        _ issued: IssuedCertificate,
        _ situation: CertificateSituation,
        _ authority: RenewalSettings.Authority,
        _ lease: any StoreLease
    ) async throws(IssuanceError) {
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
            let failure = ACMEFailure(.wrongCertificate, .certificate, "\(error)")
            return try await record(failure, situation, directory, lease)
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
            throw IssuanceError(error)
        }
        let facts = issued.facts
        shared.tell(.issued(names: names, authority: directory, generation: generation, notAfter: facts.notAfter))
        answer(.issued(notAfter: facts.notAfter))
        try await shared.records.removeOrder(of: key, under: lease)
        var new = situation
        new.facts = facts
        new.issuer = directory
        new.state = RetryPolicy.succeeded(authority: directory, state: situation.state)
        new.state.renewal = RenewalPolicy.fresh(
            facts,
            name: situation.spreading,
            before: situation.state.renewal,
            now: shared.desk.now(at: directory, Instant.now.wall)
        )
        try await shared.records.put(new.state, of: key, under: lease)
        // RFC 9773 section 4.3.2: soon after the issuance.
        try await askForWindow(new, directory, lease)
    }

    private func record(
        _ failure: ACMEFailure,
        _ situation: CertificateSituation,
        _ directory: String,
        _ lease: any StoreLease
    ) async throws(IssuanceError) {
        let now = shared.desk.now(at: directory, Instant.now.wall)
        let settings = shared.settings.fingerprint(names)
        let state = RetryPolicy.failed(
            failure,
            authority: directory,
            state: situation.state,
            settings: settings,
            now: now,
            random: UInt64.random(in: .min ... .max)
        )
        var next: UnixTime?
        let authorities = shared.settings.directories
        if case .wait(let until) = RetryPolicy.next(state, authorities: authorities, settings: settings, now: now) {
            next = until
        }
        shared.tell(.failed(names: names, authority: directory, failure, nextTry: next))
        if next != nil { answer(.failed(failure)) }
        try await shared.records.put(state, of: key, under: lease)
        // An order that was kept for another CA stays that one's.
        if !failure.keepsOrder, try await shared.records.order(of: key)?.directory.text == directory {
            try await shared.records.removeOrder(of: key, under: lease)
        }
    }

    // MARK: The CA's window

    /// Asks when the CA would like the certificate to be renewed, and keeps the answer.
    private func askForWindow(
        _ situation: CertificateSituation,
        _ directory: String,
        _ lease: any StoreLease
    ) async throws(IssuanceError) {
        guard let facts = situation.facts, let renewalID = facts.renewalID, let plan = situation.renewal,
            let authority = shared.settings.authorities.first(where: { $0.authority.id == directory })
        else { return }
        let inquiry = RenewalInfoRequest(
            authority: authority.authority,
            trust: authority.trust,
            transport: shared.transport,
            desk: shared.desk
        )
        let outcome = await inquiry.run(renewalID)
        let now = shared.desk.now(at: directory, Instant.now.wall)
        var state = situation.state
        switch outcome {
        case .answer(let info, let pause):
            state.renewal = RenewalPolicy.plan(
                facts,
                name: situation.spreading,
                stored: plan,
                info: info,
                pause: pause,
                now: now,
                random: UInt64.random(in: .min ... .max)
            )
        case .failed: state.renewal = RenewalPolicy.planAfterFailure(plan, now: now)
        case .interrupted: return
        }
        try await shared.records.put(state, of: key, under: lease)
    }
}
