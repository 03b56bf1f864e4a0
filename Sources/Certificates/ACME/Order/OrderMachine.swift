package import NIOCore

/// One order from the directory to the certificate (RFC 8555 section 7), or an account alone: a state machine without
/// sockets, clock and store. Its owner does what the last action says and reports with the one method that the action
/// names; calling another is a bug and ends the process. After `issued`, `accountReady` and `failed` nothing may be
/// called.
///
/// The owner checks that it still holds its lease before it does what an action says. It may drop the machine at any
/// time; ``presented`` is then what is still to be cleaned up, and whoever comes next goes on with the ``OrderRecord``.
package struct OrderMachine: ~Copyable {
    package enum Action: Equatable, Sendable {
        /// Then ``OrderMachine/received(_:now:)`` or ``OrderMachine/requestFailed(_:_:now:)``.
        case send(ACMERequest)
        /// Then ``OrderMachine/waited(now:)``, not before.
        case wait(until: NIODeadline)
        /// Put it into the store in place of the account's older record; then ``OrderMachine/stored(now:)``.
        case storeAccount(AccountRecord)
        /// Put it into the store in place of its older one, or of an older order's; then ``OrderMachine/stored(now:)``.
        /// Only then the order goes on, so that a successor can finish it and clean up after it.
        case storeOrder(OrderRecord)
        /// See to it that the CA finds these, wherever it may ask; then ``OrderMachine/presentationDone(now:)`` or
        /// ``OrderMachine/presentationFailed(_:now:)``. They may have been presented before, by a predecessor.
        case present([ChallengeTask])
        /// Nobody asks for these any more; then ``OrderMachine/cleanedUp(now:)``, also when it failed.
        case cleanUp([ChallengeTask])
        /// The end: publish it, then remove the order's record.
        case issued(IssuedCertificate)
        /// The end, where only the account was wanted.
        case accountReady(ACMEDirectory)
        /// The end: remove the order's record unless it says that the order is kept.
        case failed(ACMEFailure)
    }

    enum State: Equatable {
        case idle
        case calling(Purpose)
        case storingAccount, storingOrder
        /// The order's record with what is about to be presented.
        case storingTasks([ChallengeTask])
        case presenting
        case cleaning(Next)
        case done
    }

    /// What a request is for.
    enum Purpose: Equatable {
        case directory, newAccount, updateAccount, newOrder, order
        case authorization(Int)
        case challenge(Int)
        case finalize, certificate
        case alternate(Int)
    }

    /// What comes after cleaning up.
    enum Next: Equatable {
        case fail(ACMEFailure)
        /// The old order is gone.
        case newOrder
        /// The order's state decides.
        case goOn
        /// The order's state is asked for, and decides.
        case lookAtOrder
    }

    /// Nil: the account alone.
    let plan: OrderPlan?
    let authority: ACMEAuthority
    let random: @Sendable () -> UInt64
    var exchange: ACMERequestCycle
    var state = State.idle

    /// What is known of the CA; may be kept for the next machine.
    package internal(set) var directory: ACMEDirectory?
    package internal(set) var account: AccountRecord
    /// What may be presented, by this machine or by a predecessor, and was not cleaned up.
    package internal(set) var presented: [ChallengeTask] = []
    /// What this machine has presented.
    var shown: Set<ChallengeTask> = []

    var record: OrderRecord?
    var order: ACMEOrder?
    var authorizations: [Authorization] = []
    /// The order comes from a predecessor, or from an account that the CA has forgotten since: it may be gone.
    var isOrderDoubtful: Bool
    var hasRegisteredAgain = false
    var hasDroppedReplaces = false
    /// All authorizations were seen to be valid.
    var isAuthorized = false
    var finalizations = 0
    /// Looks at the same thing in a row.
    var polls = 0
    /// What the CA asked to wait before the next look, seconds.
    var asked: Int64?
    /// The first chain, while others are looked at; and where they are.
    var chain: IssuedChain?
    var alternates: [ACMEURL] = []

    /// The authorization to one name of the order.
    struct Authorization {
        let url: ACMEURL
        var name: CertificateName?
        var isOpen = true
        var task: ChallengeTask?
        var challenge: ACMEURL?
        /// The challenge has to be started.
        var isUnstarted = false
        /// Why the CA refused to start it.
        var refusal: ACMEProblem?
    }

    /// - Parameters:
    ///   - account: as it is in the store: its key has to be there, and of this CA.
    ///   - directory: what is known of the CA, not older than some hours.
    ///   - record: what a predecessor has left. It is used if it serves the plan.
    ///   - random: 64 random bits a call, for the spread of waits.
    package init(
        _ plan: OrderPlan,
        account: AccountRecord,
        directory: ACMEDirectory? = nil,
        resuming record: OrderRecord? = nil,
        random: @escaping @Sendable () -> UInt64
    ) {
        self.init(plan, plan.authority, account, directory, random)
        if let record, record.serves(plan) {
            self.record = record
            presented = record.tasks
            isOrderDoubtful = true
        }
    }

    /// The account alone: asks for the directory, and registers or updates the account as needed.
    package init(
        accountOnly authority: ACMEAuthority,
        account: AccountRecord,
        directory: ACMEDirectory? = nil,
        random: @escaping @Sendable () -> UInt64
    ) {
        self.init(nil, authority, account, directory, random)
    }

    private init(
        _ plan: OrderPlan?,
        _ authority: ACMEAuthority,
        _ account: AccountRecord,
        _ directory: ACMEDirectory?,
        _ random: @escaping @Sendable () -> UInt64
    ) {
        precondition(account.directory == authority.directory, "the account is of another CA")
        self.plan = plan
        self.authority = authority
        self.account = account
        self.directory = directory
        self.random = random
        exchange = ACMERequestCycle(key: account.key, random: random)
        isOrderDoubtful = false
    }

    /// The CA's clock, as far as it is known by now.
    package var clock: ClockSkew { exchange.clock }

    // MARK: Inputs

    package mutating func start(now: Instant) -> Action {
        precondition(state == .idle, "a machine is started once")
        exchange.start(now: now)
        return directory == nil ? call(.directory, now) : directoryKnown(now)
    }

    package mutating func received(_ response: ACMEResponse, now: Instant) -> Action {
        step(exchange.received(response, now: now), now)
    }

    /// - Parameter reason: why there is no answer, in words.
    package mutating func requestFailed(
        _ reason: String,
        _ nature: TransportFailure = .passing,
        now: Instant
    ) -> Action {
        step(exchange.lost(reason, nature, now: now), now)
    }

    package mutating func waited(now: Instant) -> Action {
        step(exchange.waited(now: now), now)
    }

    package mutating func stored(now: Instant) -> Action {
        switch state {
        case .storingAccount: return accountKnown(now)
        case .storingOrder: return goOn(now)
        case .storingTasks(let tasks): return present(tasks)
        default: preconditionFailure("nothing was to be stored")
        }
    }

    package mutating func presentationDone(now: Instant) -> Action {
        precondition(state == .presenting, "nothing was to be presented")
        // From here on it fails by itself.
        isOrderDoubtful = false
        return startChallenges(from: 0, now)
    }

    package mutating func presentationFailed(_ reason: String, now: Instant) -> Action {
        precondition(state == .presenting, "nothing was to be presented")
        return fail(ACMEFailure(.presentationFailed, .presentation, ForeignText.shown(reason)))
    }

    package mutating func cleanedUp(now: Instant) -> Action {
        guard case .cleaning(let next) = state else { preconditionFailure("nothing was to be cleaned up") }
        presented = []
        shown = []
        switch next {
        case .fail(let failure): return end(.failed(failure))
        case .newOrder: return call(.newOrder, now)
        case .goOn: return goOn(now)
        case .lookAtOrder: return call(.order, now)
        }
    }

    // MARK: Ends

    /// Ends the order, after everything was cleaned up.
    mutating func fail(_ failure: ACMEFailure) -> Action {
        var failure = failure
        failure.keepsOrder = record != nil && failure.code.leavesOrder
        return cleanUp(.fail(failure)) ?? end(.failed(failure))
    }

    /// Nil if nothing is presented.
    mutating func cleanUp(_ next: Next) -> Action? {
        guard !presented.isEmpty else { return nil }
        state = .cleaning(next)
        return .cleanUp(presented)
    }

    mutating func end(_ action: Action) -> Action {
        state = .done
        return action
    }
}
