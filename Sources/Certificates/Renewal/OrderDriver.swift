import ACME
import Formats
import NIOCore
import Store

/// The driver of one ``ACME/OrderMachine`` under a lease: exchanges its requests, stores its records and presents its
/// challenges. If this process ends at any point, the store has what the next holder of the lease needs to continue.
struct OrderDriver: Sendable {
    enum Outcome: Sendable {
        case issued(IssuedCertificate)
        case failed(ACMEFailure)
        /// The order is not due by the CA's clock.
        case notDue
    }

    let client: ACMEClient
    let certificate: StoreKey
    let presenter: any ChallengePresenter
    let lease: any StoreLease
    /// Whether the order is still due at a time by the CA's clock. Called once, when that clock becomes known.
    let isDue: @Sendable (UnixTime) -> Bool
    /// Called once, when the CA has accepted the order, or continues that of a predecessor.
    let onAccepted: @Sendable () -> Void

    private var records: RenewalRecords { client.records }
    private var directories: ACMEDirectoryCache { client.directories }

    /// Runs the order to its end.
    ///
    /// - Throws: If the lease was lost, the store failed, or the gateway is shutting down. The order is kept for the
    ///   next holder of the lease.
    func run(_ plan: OrderPlan) async throws(StoreError) -> Outcome {
        try await requireLease()
        let previous = try await records.order(of: certificate)
        switch try await prepareAccount(plan, previous) {
        case .success(let account): return try await run(plan, account, previous)
        case .failure(let failure): return .failed(failure)
        case nil: return .notDue
        }
    }

    /// Returns the account, after a registration if needed, or `nil` if by the CA's clock, which is known now, nothing
    /// is due.
    private func prepareAccount(
        _ plan: OrderPlan,
        _ previous: OrderRecord?
    ) async throws(StoreError) -> Result<AccountRecord, ACMEFailure>? {
        let authority = plan.authority
        if let previous, !previous.serves(plan) {
            // An order of other names or of another CA is not continued.
            await presenter.withdraw(previous.tasks)
        }
        let account = try await records.account(at: authority.directory)
        if client.directory != nil, account.url != nil, account.contacts == authority.contacts {
            return .success(account)
        }
        let isClockKnown = directories.clock(of: authority.id) != nil
        switch try await directories.registration(by: client) {
        case .failure(var failure):
            failure.keepsOrder = previous != nil && failure.code.keepsOrder
            return .failure(failure)
        case .success(let ready):
            return isClockKnown || isDue(directories.serverTime(at: authority.id))
                ? .success(ready) : nil
        }
    }

    private func run(
        _ plan: OrderPlan,
        _ account: AccountRecord,
        _ previous: OrderRecord?
    ) async throws(StoreError) -> Outcome {
        var machine = OrderMachine(
            plan,
            account: account,
            directory: client.directory,
            resuming: previous,
            random: { .random(in: .min ... .max) }
        )
        var isAccepted = false
        var action = machine.start(now: .now)
        while true {
            action = try await client.exchange(&machine, from: action, check: requireLease)
            if !isAccepted, action.showsAcceptance {
                isAccepted = true
                onAccepted()
            }
            switch action {
            case .storeAccount(let account):
                try await records.put(account)
                action = machine.stored(now: .now)
            case .storeOrder(let order):
                try await records.put(order, of: certificate, under: lease)
                action = machine.stored(now: .now)
            case .present(let tasks):
                try await requireLease()
                do throws(PresentationError) {
                    try await presenter.present(tasks)
                    action = machine.presentationDone(now: .now)
                } catch {
                    action = machine.presentationFailed("\(error)", now: .now)
                }
            case .cleanUp(let tasks):
                await presenter.withdraw(tasks)
                action = machine.cleanedUp(now: .now)
            case .issued(let issued): return .issued(issued)
            case .failed(let failure):
                if failure.step != .authorization, failure.step != .challenge {
                    directories.removeDirectory(of: client.id)
                }
                return .failed(failure)
            case .send, .wait, .accountReady: preconditionFailure("the exchange has ended, and an order was asked for")
            }
        }
    }

    /// Checks the lease before each request and before challenges are presented. A request in progress cannot be
    /// fenced; what is written to the store is.
    private func requireLease() async throws(StoreError) {
        guard !Task.isCancelled else { throw client.shutdown }
        try await lease.check()
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
