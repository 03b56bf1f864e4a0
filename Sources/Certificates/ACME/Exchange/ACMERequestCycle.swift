import Formats
import NIOCore
import Store

/// One request after the other with one CA, each until there is an answer that means something: nonces are got and
/// renewed, server errors and lost answers lead to another try, the time for all of it is watched.
///
/// Its owner calls ``begin(_:after:now:)`` and then one of ``received(_:now:)``, ``lost(_:now:)`` and ``waited(now:)``,
/// as the last step asked for, until a step ends the call.
struct ACMERequestCycle {
    struct Call: Equatable {
        enum Content: Equatable {
            case get
            /// No payload: a POST-as-GET.
            case post([String: JSONValue]?, JWS.Signer)
        }

        var step: ACMEFailure.Step
        var url: ACMEURL
        var content: Content
        var accept = ACMERequest.json
    }

    enum Step: Equatable {
        case send(ACMERequest)
        case wait(until: NIODeadline)
        /// Ends the call: status 2xx.
        case answered(ACMEResponse)
        /// Ends the call: status 4xx, but for those that are tried again or fail.
        case refused(ACMEProblem, ACMEResponse)
        /// Ends everything.
        case failed(ACMEFailure)
    }

    /// Nil: nothing is signed.
    let key: AccountKey?
    /// Where nonces come from; known once the directory is.
    var newNonce: ACMEURL?
    private(set) var clock = ClockSkew()
    /// The call that ran last was sent more than once: the CA may have done what it says before.
    private(set) var wasRepeated = false

    private let random: @Sendable () -> UInt64
    private var nonces = NoncePool()
    private var phase = Phase.idle
    private var call: Call?
    private var badNonces = 0
    private var faults = 0
    private var requests = 0
    private var deadline = NIODeadline.distantFuture
    private var lastDeadline = NIODeadline.distantFuture

    private enum Phase {
        case idle, waiting, gettingNonce, calling
    }

    init(key: AccountKey?, random: @escaping @Sendable () -> UInt64) {
        self.key = key
        self.random = random
    }

    /// To be called first. From now on the time runs.
    mutating func start(now: Instant) {
        deadline = now.uptime + ACMELimits.orderTime
        lastDeadline = now.uptime + ACMELimits.longestOrderTime
    }

    func authorityTime(_ now: Instant) -> UnixTime { clock.now(now.wall) }

    /// - Parameter pause: what to wait before.
    mutating func begin(_ call: Call, after pause: Pause? = nil, now: Instant) -> Step {
        precondition(phase == .idle, "one request at a time")
        self.call = call
        badNonces = 0
        faults = 0
        wasRepeated = false
        if let pause { return wait(pause, now) ?? late(pause, now) }
        return proceed(now)
    }

    mutating func waited(now: Instant) -> Step {
        precondition(phase == .waiting, "nothing was to be waited for")
        return proceed(now)
    }

    mutating func received(_ response: ACMEResponse, now: Instant) -> Step {
        if let date = response.date { clock.learn(date: date, wall: now.wall) }
        switch phase {
        case .gettingNonce:
            if let nonce = response.nonce { nonces.add(nonce) }
            return gotNonce(response, now)
        case .calling:
            let isNonceBad = response.status < 500 && Self.problem(response)?.errorName == "badNonce"
            if isNonceBad { nonces.removeAll() }
            if let nonce = response.nonce { nonces.add(nonce) }
            return isNonceBad ? retryNonce(now) : judge(response, now)
        case .idle, .waiting: preconditionFailure("no request was sent")
        }
    }

    mutating func lost(_ reason: String, _ nature: TransportFailure, now: Instant) -> Step {
        precondition(phase == .gettingNonce || phase == .calling, "no request was sent")
        let reason = ForeignText.shown(reason, limit: 300)
        return switch nature {
        case .passing: fault(failure(.unavailable, "no answer: \(reason)"), nil, now)
        case .lasting: end(failure(.unavailable, "no answer: \(reason)"))
        case .senseless: end(failure(.badAnswer, "the CA's answer cannot be used: \(reason)"))
        }
    }

    // MARK: Requests

    private mutating func proceed(_ now: Instant) -> Step {
        guard let call else { preconditionFailure("a call is there until it ends") }
        guard now.uptime < deadline else { return end(failure(.timedOut, "the time for the order is over")) }
        guard requests < ACMELimits.requests else {
            return end(failure(.timedOut, "the CA was asked \(requests) times without an end"))
        }
        requests += 1
        switch call.content {
        case .get:
            phase = .calling
            return .send(ACMERequest(method: .get, url: call.url, accept: call.accept, body: []))
        case .post(let payload, let signer):
            guard let key, let newNonce else { preconditionFailure("signed calls need a key and the directory") }
            guard let nonce = nonces.take() else {
                phase = .gettingNonce
                return .send(ACMERequest(method: .head, url: newNonce, accept: "*/*", body: []))
            }
            phase = .calling
            let body = JWS.sign(payload, with: key, as: signer, nonce: nonce, url: call.url)
            return .send(ACMERequest(method: .post, url: call.url, accept: call.accept, body: body))
        }
    }

    // MARK: Answers

    private mutating func gotNonce(_ response: ACMEResponse, _ now: Instant) -> Step {
        guard (200..<300).contains(response.status), response.nonce != nil else {
            let detail = "the CA gave no nonce (status \(response.status))"
            let code: ACMEFailure.Code = response.status >= 500 ? .unavailable : .badAnswer
            return fault(ACMEFailure(code, .nonce, detail), response, now)
        }
        return proceed(now)
    }

    private mutating func retryNonce(_ now: Instant) -> Step {
        guard badNonces < ACMELimits.nonceRetries else {
            badNonces = 0
            let count = ACMELimits.nonceRetries + 1
            return fault(failure(.badNonce, "the CA refused \(count) nonces in a row"), nil, now)
        }
        badNonces += 1
        return proceed(now)
    }

    private mutating func judge(_ response: ACMEResponse, _ now: Instant) -> Step {
        let problem = Self.problem(response)
        switch response.status {
        case 200..<300:
            phase = .idle
            return .answered(response)
        case 408, 500..<600:
            return fault(refusal(problem, response, now), response, now)
        case 429:
            return end(refusal(problem, response, now))
        case 400..<500:
            if problem?.errorName == "rateLimited" { return end(refusal(problem, response, now)) }
            phase = .idle
            let unnamed = ACMEProblem(type: "about:blank", detail: "status \(response.status) without a reason")
            return .refused(problem ?? unnamed, response)
        case 300..<400:
            let target = response.first("location").map { " to \(ForeignText.shown($0, limit: 200))" } ?? ""
            return end(failure(.badAnswer, "the CA redirects\(target), which is not followed"))
        default:
            return end(failure(.badAnswer, "the CA answers with status \(response.status)"))
        }
    }

    /// What a status that says "not now" means.
    private func refusal(_ problem: ACMEProblem?, _ response: ACMEResponse, _ now: Instant) -> ACMEFailure {
        let time = authorityTime(now)
        let pause = response.retryAfter(now: time)
        if response.status == 429 || problem?.errorName == "rateLimited" {
            return ACMEFailure(
                .rateLimited,
                step,
                problem?.detail ?? "the CA asks for fewer requests",
                type: problem?.type,
                identifier: problem?.identifier?.value,
                instance: problem?.instance,
                retry: .notBefore(time + (pause ?? RetryPolicy.rateLimitPause))
            )
        }
        return ACMEFailure(
            problem?.errorName == "serverInternal" ? .serverInternal : .unavailable,
            step,
            problem?.detail ?? "the CA answers with status \(response.status)",
            type: problem?.type,
            retry: pause.map { .notBefore(time + $0) }
        )
    }

    /// Another try after a pause, or the end.
    private mutating func fault(_ failure: ACMEFailure, _ response: ACMEResponse?, _ now: Instant) -> Step {
        if phase == .calling { wasRepeated = true }
        guard faults < ACMELimits.faultRetries else { return end(failure) }
        let whole = Int64(1_000) << Int64(faults)
        let spread = whole / 2 + Int64(random() % UInt64(whole))
        faults += 1
        let asked = response?.retryAfter(now: authorityTime(now))
        // Nobody waits for long with a lease in hand; the failure says when.
        if let asked, TimeAmount.seconds(min(asked, 1_000_000)) > ACMELimits.longestFaultPause { return end(failure) }
        return wait(Pause(own: .milliseconds(spread), asked: asked), now) ?? end(failure)
    }

    // MARK: Time

    /// What to wait before a call: by our own measure, and as the CA asked in seconds.
    struct Pause: Equatable {
        var own: TimeAmount
        var asked: Int64?
    }

    /// Nil if there is no time for it. A long wait that the CA asks for moves the deadline, but never beyond the last
    /// one; short ones do not, however many they are.
    private mutating func wait(_ pause: Pause, _ now: Instant) -> Step? {
        var length = pause.own
        var isLong = false
        if let asked = pause.asked {
            let seconds = TimeAmount.seconds(min(asked, 1_000_000))
            length = max(length, max(seconds, ACMELimits.shortestRetryAfter))
            isLong = seconds >= ACMELimits.timeAfterWait
        }
        let end = now.uptime + length
        guard end < (isLong ? lastDeadline : deadline) else { return nil }
        if end >= deadline { deadline = min(lastDeadline, end + ACMELimits.timeAfterWait) }
        phase = .waiting
        return .wait(until: end)
    }

    private mutating func late(_ pause: Pause, _ now: Instant) -> Step {
        let time = authorityTime(now)
        let failure = ACMEFailure(
            .timedOut,
            step,
            pause.asked.map { "the CA asks to wait for \($0) seconds" } ?? "the time for the order is over",
            retry: pause.asked.map { .notBefore(time + $0) }
        )
        return end(failure)
    }

    private var step: ACMEFailure.Step { call?.step ?? .directory }

    private func failure(_ code: ACMEFailure.Code, _ detail: String) -> ACMEFailure {
        ACMEFailure(code, step, detail)
    }

    private mutating func end(_ failure: ACMEFailure) -> Step {
        phase = .idle
        return .failed(failure)
    }

    private static func problem(_ response: ACMEResponse) -> ACMEProblem? {
        response.status >= 400 ? try? ACMEProblem(response.body) : nil
    }
}
