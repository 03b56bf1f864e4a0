package import NIOCore

/// The state machine of one certificate order, from the directory to the certificate (RFC 8555 §7), or of the account
/// alone.
///
/// Think of it as the script of one order. Every input method returns exactly one ``Action``. The owner performs the
/// action and reports the result with the input method that the action's comment names, which returns the next action,
/// until one of ``Action/issued(_:)``, ``Action/accountReady(_:)`` and ``Action/failed(_:)`` ends the machine. Calling
/// any other method is a programming error and traps. The machine performs no I/O and reads no clock: the owner sends
/// requests, waits, writes records and presents challenges.
///
/// ```
/// directory → account → order → authorizations → present → challenges → poll → clean up → finalize → certificate
/// ```
///
/// Requests, nonces, retries and deadlines are handled by ``ACMERequestCycle``; this type handles complete responses.
/// ``Purpose`` says what the pending request is for, ``State`` which input is expected.
///
/// The order survives its process. Everything that a successor needs is stored by an action before it can have an
/// effect at the CA: the account's key before its registration, the order with its key before anything is presented,
/// and the presented tasks before they are presented. The owner checks before each action that it still holds its
/// lease. It may drop the machine at any time: ``presented`` then lists what has to be cleaned up, and the next holder
/// of the lease continues from the ``OrderRecord``.
package struct OrderMachine: ACMEMachine, ~Copyable {
    package enum Action: ACMEAction, Equatable {
        /// Send the request. Next: ``OrderMachine/received(_:now:)`` or ``OrderMachine/requestFailed(_:_:now:)``.
        case send(ACMERequest)
        /// Wait until the deadline. Next: ``OrderMachine/waited(now:)``, not earlier.
        case wait(until: NIODeadline)
        /// Store the record in place of the account's older one. Next: ``OrderMachine/stored(now:)``.
        case storeAccount(AccountRecord)
        /// Store the record in place of the certificate's older one. Next: ``OrderMachine/stored(now:)``. The order
        /// continues only then, so that a successor can finish it and clean up after it.
        case storeOrder(OrderRecord)
        /// Make the responses to these challenges available wherever the CA may look for them. Next:
        /// ``OrderMachine/presentationDone(now:)`` or ``OrderMachine/presentationFailed(_:now:)``. A predecessor may
        /// have presented them already.
        case present([ChallengeTask])
        /// Remove the responses to these challenges. Next: ``OrderMachine/cleanedUp(now:)``, even if it failed.
        case cleanUp([ChallengeTask])
        /// The order succeeded. Publish the certificate, then remove the order's record.
        case issued(IssuedCertificate)
        /// The account is registered and up to date. Only returned if the machine was created for the account alone.
        case accountReady(ACMEDirectory)
        /// The order failed. Remove its record unless ``ACMEFailure/keepsOrder`` is set.
        case failed(ACMEFailure)

        package var exchange: ACMEExchange? {
            switch self {
            case .send(let request): .send(request)
            case .wait(let until): .wait(until: until)
            default: nil
            }
        }
    }

    enum State: Equatable {
        case idle
        case calling(Purpose)
        case storingAccount, storingOrder
        /// The order's record is being stored, with the tasks that are presented next.
        case storingTasks([ChallengeTask])
        case presenting
        case cleaning(Next)
        case done
    }

    /// The purpose of a request.
    enum Purpose: Equatable {
        case directory, newAccount, updateAccount, newOrder, order
        case authorization(Int)
        case challenge(Int)
        case finalize, certificate
        case alternate(Int)
    }

    /// The step that follows a clean-up.
    enum Next: Equatable {
        case fail(ACMEFailure)
        /// Create a new order in place of one that is gone.
        case newOrder
        /// Continue according to the order's state.
        case advance
        /// Fetch the order, then continue according to its state.
        case fetchOrder
    }

    /// The plan of the order, or `nil` for the account alone.
    let plan: OrderPlan?
    let authority: ACMEAuthority
    /// The time for the account alone, or `nil` if that of an order applies.
    private var limit: TimeAmount?
    var requests: ACMERequestCycle
    var state = State.idle

    /// The CA's directory, once it is known. The owner may pass it to the next machine.
    package internal(set) var directory: ACMEDirectory?
    package internal(set) var account: AccountRecord
    /// The tasks that this machine or a predecessor may have presented and that were not cleaned up.
    package internal(set) var presented: [ChallengeTask] = []
    /// The tasks that this machine has presented.
    var presentedHere: Set<ChallengeTask> = []

    var record: OrderRecord?
    var order: ACMEOrder?
    var authorizations: [Authorization] = []
    /// Whether the order may not exist any more, because it is a predecessor's or of an account that the CA has lost
    /// since.
    var mayOrderBeGone: Bool
    var hasRegisteredAgain = false
    var hasDroppedReplaces = false
    /// Whether all authorizations were valid when they were last fetched.
    var isAuthorized = false
    var finalizations = 0
    /// The number of consecutive polls of the same resource.
    var polls = 0
    /// The `Retry-After` of the last response, in seconds, which precedes the next poll.
    var retryAfter: Int64?
    /// The first chain, while alternate ones are downloaded; and the URLs of those.
    var chain: IssuedChain?
    var alternates: [ACMEURL] = []

    /// The authorization of one name of the order.
    struct Authorization {
        let url: ACMEURL
        var name: CertificateName?
        var isOpen = true
        var task: ChallengeTask?
        var challenge: ACMEURL?
        /// Whether the challenge has still to be started.
        var isUnstarted = false
        /// The problem with which the CA refused to start the challenge.
        var refusal: ACMEProblem?
    }

    /// Creates a machine for an order.
    ///
    /// - Parameters:
    ///   - account: The account of this CA as it is stored, with its key.
    ///   - directory: The CA's directory, if known and at most some hours old.
    ///   - record: The record that a predecessor left. It is resumed if it matches the plan.
    ///   - random: Returns 64 random bits for each call, for the jitter of pauses.
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
            mayOrderBeGone = true
        }
    }

    /// Creates a machine that fetches the directory, and registers or updates the account as needed.
    ///
    /// - Parameter limit: The time after which the machine fails.
    package init(
        accountOnly authority: ACMEAuthority,
        account: AccountRecord,
        directory: ACMEDirectory? = nil,
        limit: TimeAmount = ACMELimits.orderTime,
        random: @escaping @Sendable () -> UInt64
    ) {
        self.init(nil, authority, account, directory, random)
        self.limit = limit
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
        requests = ACMERequestCycle(key: account.key, random: random)
        mayOrderBeGone = false
    }

    package var clock: ClockSkew? { requests.clock }

    // MARK: Inputs

    package mutating func start(now: Instant) -> Action {
        precondition(state == .idle, "a machine is started once")
        requests.start(now: now, within: limit)
        return directory == nil ? call(.directory, now) : handleDirectory(now)
    }

    package mutating func received(_ response: ACMEResponse, now: Instant) -> Action {
        handle(requests.received(response, now: now), now)
    }

    /// Handles a request without a valid response.
    ///
    /// - Parameter reason: A description of the reason.
    package mutating func requestFailed(
        _ reason: String,
        _ kind: TransportFailure = .transient,
        now: Instant
    ) -> Action {
        handle(requests.requestFailed(reason, kind, now: now), now)
    }

    package mutating func waited(now: Instant) -> Action {
        handle(requests.waited(now: now), now)
    }

    package mutating func stored(now: Instant) -> Action {
        switch state {
        case .storingAccount: return compareContacts(now)
        case .storingOrder: return advance(now)
        case .storingTasks(let tasks): return present(tasks)
        default: preconditionFailure("nothing was to be stored")
        }
    }

    package mutating func presentationDone(now: Instant) -> Action {
        precondition(state == .presenting, "nothing was to be presented")
        // From here on a failure is the order's own.
        mayOrderBeGone = false
        return startChallenges(from: 0, now)
    }

    package mutating func presentationFailed(_ reason: String, now: Instant) -> Action {
        precondition(state == .presenting, "nothing was to be presented")
        return fail(ACMEFailure(.presentationFailed, .presentation, UntrustedText.sanitised(reason)))
    }

    package mutating func cleanedUp(now: Instant) -> Action {
        guard case .cleaning(let next) = state else { preconditionFailure("nothing was to be cleaned up") }
        presented = []
        presentedHere = []
        switch next {
        case .fail(let failure): return end(.failed(failure))
        case .newOrder: return call(.newOrder, now)
        case .advance: return advance(now)
        case .fetchOrder: return call(.order, now)
        }
    }

    // MARK: Ends

    /// Ends the order, after everything was cleaned up.
    mutating func fail(_ failure: ACMEFailure) -> Action {
        var failure = plan.map { failure.attributed(to: $0.names) } ?? failure
        failure.keepsOrder = record != nil && failure.code.keepsOrder
        return cleanUp(.fail(failure)) ?? end(.failed(failure))
    }

    /// Starts a clean-up, or returns `nil` if nothing is presented.
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
