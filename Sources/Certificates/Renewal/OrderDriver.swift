package import ACME
import Formats
import NIOCore
import Outbound
import Store

/// The driver of one ``ACME/OrderMachine`` under a lease: sends its requests, waits, stores its records and presents
/// its challenges. If this process ends at any point, the store has what the next holder of the lease needs to
/// continue.
struct OrderDriver: Sendable {
    enum Outcome: Sendable {
        case issued(IssuedCertificate)
        case failed(ACMEFailure)
        /// The order is not due by the CA's clock.
        case notDue
        /// The lease was lost, the store failed, or the gateway is shutting down. The order is kept for the next holder
        /// of the lease.
        case interrupted(IssuanceError)
    }

    let certificate: StoreKey
    let trust: OutboundTrust
    let transport: any ACMETransport
    let presenter: any ChallengePresenter
    let records: RenewalRecords
    let directories: ACMEDirectoryCache
    let lease: any StoreLease
    /// Whether the order is still due at a time by the CA's clock. Called once, when that clock becomes known.
    let isDue: @Sendable (UnixTime) -> Bool
    /// Called once, when the CA has accepted the order, or continues that of a predecessor.
    let onAccepted: @Sendable () -> Void

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

    /// Returns the account, after a registration if needed, or `nil` if by the CA's clock, which is known now, nothing
    /// is due.
    private func prepareAccount(
        _ plan: OrderPlan,
        _ previous: OrderRecord?
    ) async throws(IssuanceError) -> Result<AccountRecord, ACMEFailure>? {
        let authority = plan.authority
        if let previous, !previous.serves(plan) {
            // An order of other names or of another CA is not continued.
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
        case .interrupted(let error): throw error
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
        var isAccepted = false
        var action = machine.start(now: .now)
        while true {
            do throws(IssuanceError) {
                try await requireLease()
                if !isAccepted, action.showsAcceptance {
                    isAccepted = true
                    onAccepted()
                }
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
                    updateCache(machine.directory, machine.clock, authority, hasAnswered)
                    return .issued(issued)
                case .failed(let failure):
                    updateCache(machine.directory, machine.clock, authority, hasAnswered)
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

    private func updateCache(
        _ directory: ACMEDirectory?,
        _ clock: ClockSkew,
        _ authority: String,
        _ hasAnswered: Bool
    ) {
        directories.update(authority, directory: directory, clock: clock, hasAnswered: hasAnswered)
    }

    /// Checks the lease before each action that others can observe. An action in progress cannot be fenced; the
    /// publication is.
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

extension OrderMachine.Action {
    /// Whether the action is one that follows only if there is an order.
    fileprivate var showsAcceptance: Bool {
        switch self {
        case .storeOrder, .present, .issued: true
        case .send, .wait, .storeAccount, .cleanUp, .accountReady, .failed: false
        }
    }
}

extension Instant {
    /// Reads the monotonic and the wall clock of this machine.
    package static var now: Instant {
        Instant(uptime: .now(), wall: .now())
    }
}
