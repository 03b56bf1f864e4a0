import Formats
import NIOCore
import Store

extension OrderMachine {
    /// Sends the request for this purpose, after a pause if something is looked at again.
    mutating func call(_ purpose: Purpose, after pause: ACMERequestCycle.Pause? = nil, _ now: Instant) -> Action {
        state = .calling(purpose)
        return step(exchange.begin(request(purpose), after: pause, now: now), now)
    }

    /// Looks again at what is pending.
    mutating func poll(_ purpose: Purpose, _ now: Instant) -> Action {
        let doubled = ACMELimits.firstPoll * (1 << min(polls, 8))
        let pause = ACMERequestCycle.Pause(own: min(doubled, ACMELimits.lastPoll), asked: asked)
        polls += 1
        asked = nil
        return call(purpose, after: pause, now)
    }

    /// Keeps what the CA asks to wait before the next look.
    mutating func note(_ response: ACMEResponse, _ now: Instant) {
        guard let seconds = response.retryAfter(now: exchange.authorityTime(now)) else { return }
        asked = max(asked ?? 0, seconds)
    }

    mutating func step(_ step: ACMERequestCycle.Step, _ now: Instant) -> Action {
        switch step {
        case .send(let request): return .send(request)
        case .wait(let until): return .wait(until: until)
        case .failed(let failure): return fail(failure)
        case .answered(let response): return answered(purpose, response, now)
        case .refused(let problem, let response): return refused(purpose, problem, response, now)
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
            let url = known(directory).newAccount
            return ACMERequestCycle.Call(step: .account, url: url, content: .post(registration(url), .key))
        case .updateAccount: return post(known(account.url), ["contact": contacts])
        case .newOrder: return post(known(directory).newOrder, orderPayload)
        case .order: return post(known(record).order, nil)
        case .authorization(let index): return post(authorizations[index].url, nil)
        case .challenge(let index): return post(known(authorizations[index].challenge), [:])
        case .finalize:
            let request = CertificateRequest.make(known(plan).names, key: known(record).key)
            return post(known(order).finalize, ["csr": .string(Base64URL.encode(request))])
        case .certificate: return chain(post(known(order?.certificate), nil))
        case .alternate(let index): return chain(post(alternates[index], nil))
        }
    }

    private func chain(_ call: ACMERequestCycle.Call) -> ACMERequestCycle.Call {
        var call = call
        call.accept = ACMERequest.chain
        return call
    }

    func known<Value>(_ value: Value?) -> Value {
        guard let value else { preconditionFailure("what the state implies is there") }
        return value
    }

    private mutating func answered(_ purpose: Purpose, _ response: ACMEResponse, _ now: Instant) -> Action {
        do throws(ACMEMessageError) {
            switch purpose {
            case .directory:
                directory = try ACMEDirectory(response.body, from: authority.directory)
                return directoryKnown(now)
            case .newAccount: return try registered(response)
            case .updateAccount:
                account.contacts = authority.contacts
                state = .storingAccount
                return .storeAccount(account)
            case .newOrder: return try ordered(response, now)
            case .order, .finalize:
                order = try checked(ACMEOrder(response.body, from: authority.directory))
                note(response, now)
                return goOn(now)
            case .authorization(let index): return try authorization(index, response, now)
            case .challenge(let index):
                note(response, now)
                return startChallenges(from: index + 1, now)
            case .certificate: return try issued(response, now)
            case .alternate(let index): return alternate(index, response, now)
            }
        } catch {
            return fail(ACMEFailure(.badAnswer, purpose.step, "the CA's answer cannot be used: \(error)"))
        }
    }

    private mutating func refused(
        _ purpose: Purpose,
        _ problem: ACMEProblem,
        _ response: ACMEResponse,
        _ now: Instant
    ) -> Action {
        if problem.errorName == "accountDoesNotExist", purpose != .directory, purpose != .newAccount {
            return accountForgotten(problem, purpose, now)
        }
        if isOrderDoubtful, purpose.isOfOrder, isGone(problem, response) { return orderGone(now) }
        switch purpose {
        case .newOrder where mayDropReplaces(problem, response):
            hasDroppedReplaces = true
            return call(.newOrder, now)
        case .challenge(let index):
            // Perhaps it was started already and the answer was lost: the authorization itself tells.
            authorizations[index].refusal = problem
            return startChallenges(from: index + 1, now)
        case .finalize where exchange.wasRepeated || problem.errorName == "orderNotReady":
            note(response, now)
            return poll(.order, now)
        case .alternate(let index): return alternate(index, nil, now)
        default:
            let terms = response.links("terms-of-service").first.map { ForeignText.shown($0) }
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

    /// It is about an order that was made before.
    var isOfOrder: Bool {
        switch self {
        case .directory, .newAccount, .updateAccount, .newOrder, .alternate: false
        case .order, .authorization, .challenge, .finalize, .certificate: true
        }
    }
}
