import Formats
import NIOCore

extension OrderMachine {
    /// Sends the request for a purpose, after a pause if given.
    mutating func call(_ purpose: Purpose, after pause: ACMERequestCycle.Pause? = nil, _ now: Instant) -> Action {
        state = .calling(purpose)
        return handle(requests.begin(request(purpose), after: pause, now: now), now)
    }

    /// Sends a request for a pending resource, after a pause that doubles from poll to poll.
    mutating func poll(_ purpose: Purpose, _ now: Instant) -> Action {
        let doubled = ACMELimits.firstPoll * (1 << min(polls, 8))
        let pause = ACMERequestCycle.Pause(own: min(doubled, ACMELimits.lastPoll), retryAfter: retryAfter)
        polls += 1
        retryAfter = nil
        return call(purpose, after: pause, now)
    }

    /// Records the `Retry-After` that precedes the next poll.
    mutating func recordRetryAfter(_ response: ACMEResponse, _ now: Instant) {
        guard let seconds = response.retryAfter(now: requests.serverTime(now)) else { return }
        retryAfter = max(retryAfter ?? 0, seconds)
    }

    mutating func handle(_ action: ACMERequestCycle.Action, _ now: Instant) -> Action {
        switch action {
        case .send(let request): return .send(request)
        case .wait(let until): return .wait(until: until)
        case .failed(let failure): return fail(failure)
        case .succeeded(let response): return handleSuccess(purpose, response, now)
        case .rejected(let problem, let response): return handleProblem(purpose, problem, response, now)
        }
    }

    private var purpose: Purpose {
        guard case .calling(let purpose) = state else { preconditionFailure("no request was sent") }
        return purpose
    }

    private func request(_ purpose: Purpose) -> ACMERequestCycle.Call {
        func post(_ url: ACMEURL, _ payload: [String: JSONValue]?) -> ACMERequestCycle.Call {
            guard let account = account.url else { preconditionFailure("there is an account before anything else") }
            return ACMERequestCycle.Call(step: purpose.step, url: url, content: .post(payload, .account(account)))
        }
        switch purpose {
        case .directory:
            return ACMERequestCycle.Call(step: .directory, url: authority.directory, content: .get)
        case .newAccount:
            let url = required(directory).newAccount
            return ACMERequestCycle.Call(step: .account, url: url, content: .post(registration(url), .key))
        case .updateAccount: return post(required(account.url), ["contact": contacts])
        case .newOrder: return post(required(directory).newOrder, orderPayload)
        case .order: return post(required(record).order, nil)
        case .authorization(let index): return post(authorizations[index].url, nil)
        case .challenge(let index): return post(required(authorizations[index].challenge), [:])
        case .finalize:
            let request = CertificateRequest.make(required(plan).names, key: required(record).key)
            return post(required(order).finalize, ["csr": .string(Base64URL.encode(request))])
        case .certificate: return chain(post(required(order?.certificate), nil))
        case .alternate(let index): return chain(post(alternates[index], nil))
        }
    }

    private func chain(_ call: ACMERequestCycle.Call) -> ACMERequestCycle.Call {
        var call = call
        call.accept = ACMERequest.chain
        return call
    }

    func required<Value>(_ value: Value?) -> Value {
        guard let value else { preconditionFailure("the state guarantees a value") }
        return value
    }

    private mutating func handleSuccess(_ purpose: Purpose, _ response: ACMEResponse, _ now: Instant) -> Action {
        do throws(ACMEMessageError) {
            switch purpose {
            case .directory:
                directory = try ACMEDirectory(response.body, from: authority.directory)
                return handleDirectory(now)
            case .newAccount: return try handleAccount(response)
            case .updateAccount:
                account.contacts = authority.contacts
                state = .storingAccount
                return .storeAccount(account)
            case .newOrder: return try handleNewOrder(response, now)
            case .order, .finalize:
                order = try checked(ACMEOrder(response.body, from: authority.directory))
                recordRetryAfter(response, now)
                return advance(now)
            case .authorization(let index): return try handleAuthorization(index, response, now)
            case .challenge(let index):
                recordRetryAfter(response, now)
                return startChallenges(from: index + 1, now)
            case .certificate: return try handleCertificate(response, now)
            case .alternate(let index): return handleAlternate(index, response, now)
            }
        } catch {
            return fail(ACMEFailure(.badAnswer, purpose.step, "the CA's answer cannot be used: \(error)"))
        }
    }

    private mutating func handleProblem(
        _ purpose: Purpose,
        _ problem: ACMEProblem,
        _ response: ACMEResponse,
        _ now: Instant
    ) -> Action {
        if problem.errorName == "accountDoesNotExist", purpose != .directory, purpose != .newAccount {
            return registerAgain(problem, purpose, now)
        }
        if mayOrderBeGone, purpose.isOfOrder, isGone(problem, response) { return replaceOrder(now) }
        switch purpose {
        case .newOrder where mayDropReplaces(problem, response):
            hasDroppedReplaces = true
            return call(.newOrder, now)
        case .challenge(let index):
            // The challenge may have been started already and the response lost; the state of the authorization
            // decides.
            authorizations[index].refusal = problem
            return startChallenges(from: index + 1, now)
        case .finalize where requests.wasRepeated || problem.errorName == "orderNotReady":
            recordRetryAfter(response, now)
            return poll(.order, now)
        case .alternate(let index): return handleAlternate(index, nil, now)
        default:
            let terms = response.links("terms-of-service").first.map { UntrustedText.sanitised($0) }
            var problem = problem
            if problem.errorName == "userActionRequired", problem.instance == nil, let terms {
                problem = ACMEProblem(type: problem.type, detail: problem.detail, instance: terms)
            }
            return fail(ACMEFailure(problem, purpose.step))
        }
    }
}

extension OrderMachine.Purpose {
    var step: ACMEFailure.Step {
        switch self {
        case .directory: .directory
        case .newAccount, .updateAccount: .account
        case .newOrder, .order: .order
        case .authorization: .authorization
        case .challenge: .challenge
        case .finalize: .finalize
        case .certificate, .alternate: .certificate
        }
    }

    /// Whether the request refers to an order that was created earlier.
    var isOfOrder: Bool {
        switch self {
        case .directory, .newAccount, .updateAccount, .newOrder, .alternate: false
        case .order, .authorization, .challenge, .finalize, .certificate: true
        }
    }
}
