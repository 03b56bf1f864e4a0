package import ACME
import Formats
import NIOCore
import Outbound
import Store

/// Does what an ``OrderMachine`` says, under a lease: sends, waits, stores, presents. Whatever happens to this process, the
/// store holds what whoever comes next needs to go on.
struct OrderDriver: Sendable {
    enum Outcome: Sendable {
        case issued(IssuedCertificate)
        case failed(ACMEFailure)
        /// The CA's clock says that nothing is due.
        case notDue
        /// The lease was lost, the store is in trouble, or the gateway ends: the order stays as it is for whoever comes
        /// next.
        case interrupted(IssuanceError)
    }

    let certificate: StoreKey
    let trust: OutboundTrust
    let transport: any ACMETransport
    let presenter: any ChallengePresenter
    let records: RenewalRecords
    let directories: ACMEDirectoryCache
    let lease: any StoreLease
    /// Asked once, when the CA has told its clock for the first time: whether the order is still due.
    let isDue: @Sendable (UnixTime) -> Bool

    func run(_ plan: OrderPlan) async -> Outcome {
        do throws(IssuanceError) {
            try await requireLease()
            let previous = try await records.order(of: certificate)
            switch try await prepareAccount(plan, previous) {
            case .success(let account): return await run(plan, account, previous)
            case .failure(let failure): return .failed(failure)
            case nil: return .notDue
            }
        } catch {
            return .interrupted(error)
        }
    }

    /// The account, after directory and account were asked for if they are not known. Nil: by the CA's clock, which is
    /// known now, nothing is due.
    private func prepareAccount(
        _ plan: OrderPlan,
        _ previous: OrderRecord?
    ) async throws(IssuanceError) -> Result<AccountRecord, ACMEFailure>? {
        let authority = plan.authority
        if let previous, !previous.serves(plan) {
            // Of other names, or of another CA: nobody goes on with it.
            await presenter.withdraw(previous.tasks)
        }
        let account = try await records.account(at: authority.directory)
        let isKnown = directories.directory(of: authority.id) != nil && account.url != nil
        if isKnown, account.contacts == authority.contacts { return .success(account) }
        let isClockKnown = directories.clock(of: authority.id) != nil
        let registration = AccountRegistration(
            authority,
            trust: trust,
            transport: transport,
            records: records,
            directories: directories
        )
        switch await directories.registration(at: authority.id, registration) {
        case .interrupted(let trouble): throw trouble
        case .failed(var failure):
            failure.keepsOrder = previous != nil && failure.code.keepsOrder
            return .failure(failure)
        case .ready(_, let ready):
            return isClockKnown || isDue(directories.serverTime(at: authority.id, wall: Instant.now.wall))
                ? .success(ready) : nil
        }
    }

    private func run(_ plan: OrderPlan, _ account: AccountRecord, _ previous: OrderRecord?) async -> Outcome {
        let authority = plan.authority.id
        var machine = OrderMachine(
            plan,
            account: account,
            directory: directories.directory(of: authority),
            resuming: previous,
            random: { UInt64.random(in: .min ... .max) }
        )
        var hasAnswered = false
        var action = machine.start(now: .now)
        while true {
            do throws(IssuanceError) {
                try await requireLease()
                switch action {
                case .send(let request):
                    do throws(ACMETransportError) {
                        let response = try await transport.send(request, trust: trust)
                        hasAnswered = true
                        action = machine.received(response, now: .now)
                    } catch {
                        action = machine.requestFailed("\(error)", error.failure, now: .now)
                    }
                case .wait(let until):
                    try await Self.sleep(until: until)
                    action = machine.waited(now: .now)
                case .storeAccount(let account):
                    try await records.put(account)
                    action = machine.stored(now: .now)
                case .storeOrder(let order):
                    try await records.put(order, of: certificate, under: lease)
                    action = machine.stored(now: .now)
                case .present(let tasks):
                    do throws(PresentationError) {
                        try await presenter.present(tasks)
                        action = machine.presentationDone(now: .now)
                    } catch {
                        action = machine.presentationFailed("\(error)", now: .now)
                    }
                case .cleanUp(let tasks):
                    await presenter.withdraw(tasks)
                    action = machine.cleanedUp(now: .now)
                case .issued(let issued):
                    learn(machine.directory, machine.clock, authority, hasAnswered)
                    return .issued(issued)
                case .failed(let failure):
                    learn(machine.directory, machine.clock, authority, hasAnswered)
                    if failure.step != .authorization, failure.step != .challenge {
                        directories.removeDirectory(of: authority)
                    }
                    return .failed(failure)
                case .accountReady: preconditionFailure("an order was asked for, not the account alone")
                }
            } catch {
                return .interrupted(error)
            }
        }
    }

    private func learn(
        _ directory: ACMEDirectory?,
        _ clock: ClockSkew,
        _ authority: String,
        _ hasAnswered: Bool
    ) {
        directories.update(authority, directory: directory, clock: clock, hasAnswered: hasAnswered)
    }

    /// Before everything that others can see. An act that was begun cannot be fenced; the publication is.
    private func requireLease() async throws(IssuanceError) {
        guard !Task.isCancelled else { throw Self.shutdown }
        do throws(StoreError) {
            try await lease.check()
        } catch {
            throw IssuanceError(error)
        }
    }

    static let shutdown = IssuanceError("the gateway is shutting down")

    static func sleep(until due: NIODeadline) async throws(IssuanceError) {
        let nanoseconds = max(0, (due - .now()).nanoseconds)
        do {
            try await Task.sleep(for: .nanoseconds(nanoseconds))
        } catch {
            throw shutdown
        }
    }
}

extension Instant {
    /// Both clocks of this machine.
    package static var now: Instant {
        Instant(uptime: .now(), wall: .now())
    }
}
