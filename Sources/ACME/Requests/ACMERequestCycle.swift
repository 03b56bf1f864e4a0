import Formats
import NIOCore

/// The exchange of requests with one CA, one call at a time. A call lasts until there is a conclusive response: nonces
/// are fetched and renewed, server errors and lost responses are retried, and deadlines are enforced.
///
/// Think of a call as one logical request that may take several HTTP requests. The owner, ``OrderMachine`` or
/// ``RenewalInfoMachine``, calls ``start(now:)`` once, then ``begin(_:after:now:)`` for each call. While the returned
/// action is ``Action/send(_:)``, it reports the result with ``received(_:now:)`` or ``requestFailed(_:_:now:)``; after
/// ``Action/wait(until:)`` it calls ``waited(now:)``. The other actions end the call, and ``Action/failed(_:)`` ends
/// the machine.
struct ACMERequestCycle {
    struct Call: Equatable {
        enum Content: Equatable {
            case get
            /// A POST. A payload of `nil` makes it a POST-as-GET (RFC 8555 §6.3).
            case post([String: JSONValue]?, JWS.Signer)
        }

        var step: ACMEFailure.Step
        var url: ACMEURL
        var content: Content
        var accept = ACMERequest.json
    }

    enum Action: Equatable {
        case send(ACMERequest)
        case wait(until: NIODeadline)
        /// The call ended with a status of 2xx.
        case succeeded(ACMEResponse)
        /// The call ended with a status of 4xx that is neither retried nor a failure.
        case rejected(ACMEProblem, ACMEResponse)
        /// The call failed, and with it the whole order.
        case failed(ACMEFailure)
    }

    /// The key that signs requests, or `nil` if none are signed.
    let key: AccountKey?
    /// The URL of new nonces, set by the owner once the directory is known.
    var newNonce: ACMEURL?
    /// The difference to the CA's clock, or `nil` until the CA has responded.
    private(set) var clock: ClockSkew?
    /// Whether the last call was, or may have been, sent more than once, so that the CA may have processed it before.
    private(set) var wasRepeated = false

    private let random: @Sendable () -> UInt64
    private var nonces = NoncePool()
    private var phase = Phase.idle
    private var call: Call?
    private var badNonces = 0
    private var retries = 0
    private var requests = 0
    private var deadline = NIODeadline.distantFuture
    private var lastDeadline = NIODeadline.distantFuture

    private enum Phase {
        case idle, waiting, fetchingNonce, calling
    }

    init(key: AccountKey?, random: @escaping @Sendable () -> UInt64) {
        self.key = key
        self.random = random
    }

    /// Starts the deadline of the order. Called once, before the first call.
    ///
    /// - Parameter limit: The time for all calls, in place of that of an order, which a `Retry-After` may extend.
    mutating func start(now: Instant, within limit: TimeAmount? = nil) {
        deadline = now.uptime + (limit ?? ACMELimits.orderTime)
        lastDeadline = limit == nil ? now.uptime + ACMELimits.longestOrderTime : deadline
    }

    func serverTime(_ now: Instant) -> UnixTime { clock?.serverTime(at: now.wall) ?? now.wall }

    /// Starts a call.
    ///
    /// - Parameter pause: The pause before the request is sent.
    mutating func begin(_ call: Call, after pause: Pause? = nil, now: Instant) -> Action {
        precondition(phase == .idle, "one request at a time")
        self.call = call
        badNonces = 0
        retries = 0
        wasRepeated = false
        if let pause { return wait(pause, now) ?? timeoutFailure(pause, now) }
        return send(now)
    }

    mutating func waited(now: Instant) -> Action {
        precondition(phase == .waiting, "nothing was to be waited for")
        return send(now)
    }

    mutating func received(_ response: ACMEResponse, now: Instant) -> Action {
        var clock = clock ?? ClockSkew()
        if let date = response.date { clock.update(date: date, wall: now.wall) }
        self.clock = clock
        switch phase {
        case .fetchingNonce:
            if let nonce = response.nonce { nonces.add(nonce) }
            return handleNonce(response, now)
        case .calling:
            let isNonceBad = response.status < 500 && Self.problem(response)?.errorName == "badNonce"
            if isNonceBad {
                nonces.removeAll()
                // The HTTP client may repeat a request by itself when a kept connection turns out to be closed. The CA
                // then processes the first one and rejects the nonce of the second.
                wasRepeated = true
            }
            if let nonce = response.nonce { nonces.add(nonce) }
            return isNonceBad ? retryNonce(now) : handleResponse(response, now)
        case .idle, .waiting: preconditionFailure("no request was sent")
        }
    }

    mutating func requestFailed(_ reason: String, _ kind: TransportFailure, now: Instant) -> Action {
        precondition(phase == .fetchingNonce || phase == .calling, "no request was sent")
        let reason = UntrustedText.sanitised(reason, limit: 300)
        return switch kind {
        case .transient: retry(failure(.unavailable, "no answer: \(reason)"), nil, now)
        case .permanent: fail(failure(.unavailable, "no answer: \(reason)"))
        case .invalidResponse: fail(failure(.badAnswer, "the CA's answer cannot be used: \(reason)"))
        }
    }

    // MARK: Requests

    private mutating func send(_ now: Instant) -> Action {
        guard let call else { preconditionFailure("no call is in progress") }
        guard now.uptime < deadline else { return fail(failure(.timedOut, "the order timed out")) }
        guard requests < ACMELimits.requests else {
            return fail(failure(.timedOut, "the CA was asked \(requests) times and the order is still not complete"))
        }
        requests += 1
        switch call.content {
        case .get:
            phase = .calling
            return .send(ACMERequest(method: .get, url: call.url, accept: call.accept, body: []))
        case .post(let payload, let signer):
            guard let key, let newNonce else { preconditionFailure("signed calls need a key and the directory") }
            guard let nonce = nonces.popNewest() else {
                phase = .fetchingNonce
                return .send(ACMERequest(method: .head, url: newNonce, accept: "*/*", body: []))
            }
            phase = .calling
            let body = JWS.sign(payload, with: key, as: signer, nonce: nonce, url: call.url)
            return .send(ACMERequest(method: .post, url: call.url, accept: call.accept, body: body))
        }
    }

    // MARK: Answers

    private mutating func handleNonce(_ response: ACMEResponse, _ now: Instant) -> Action {
        guard (200..<300).contains(response.status), response.nonce != nil else {
            let detail = "the CA gave no nonce (status \(response.status))"
            let code: ACMEFailure.Code = response.status >= 500 ? .unavailable : .badAnswer
            return retry(ACMEFailure(code, .nonce, detail), response, now)
        }
        return send(now)
    }

    private mutating func retryNonce(_ now: Instant) -> Action {
        guard badNonces < ACMELimits.nonceRetries else {
            badNonces = 0
            let count = ACMELimits.nonceRetries + 1
            return retry(failure(.badNonce, "the CA refused \(count) nonces in a row"), nil, now)
        }
        badNonces += 1
        return send(now)
    }

    private mutating func handleResponse(_ response: ACMEResponse, _ now: Instant) -> Action {
        let problem = Self.problem(response)
        switch response.status {
        case 200..<300:
            phase = .idle
            return .succeeded(response)
        case 408, 500..<600:
            return retry(temporaryFailure(problem, response, now), response, now)
        case 429:
            return fail(temporaryFailure(problem, response, now))
        case 400..<500:
            if problem?.errorName == "rateLimited" { return fail(temporaryFailure(problem, response, now)) }
            phase = .idle
            let unnamed = ACMEProblem(type: "about:blank", detail: "status \(response.status) without a reason")
            return .rejected(problem ?? unnamed, response)
        case 300..<400:
            let target = response.first("location").map { " to \(UntrustedText.sanitised($0, limit: 200))" } ?? ""
            return fail(failure(.badAnswer, "the CA redirects\(target), which is not followed"))
        default:
            return fail(failure(.badAnswer, "the CA answers with status \(response.status)"))
        }
    }

    /// Returns the failure for a status that asks to try again later.
    private func temporaryFailure(_ problem: ACMEProblem?, _ response: ACMEResponse, _ now: Instant) -> ACMEFailure {
        let time = serverTime(now)
        let pause = response.retryAfter(now: time)
        if response.status == 429 || problem?.errorName == "rateLimited" {
            return ACMEFailure(
                .rateLimited,
                step,
                problem?.detail ?? "the CA asks for fewer requests",
                type: problem?.type,
                identifier: problem?.identifier?.value,
                instance: problem?.instance,
                retry: .notBefore(time + (pause ?? ACMELimits.rateLimitPause))
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

    /// Repeats the request after a pause, or fails if it was repeated too often.
    private mutating func retry(_ failure: ACMEFailure, _ response: ACMEResponse?, _ now: Instant) -> Action {
        if phase == .calling { wasRepeated = true }
        guard retries < ACMELimits.faultRetries else { return fail(failure) }
        let whole = Int64(1_000) << Int64(retries)
        let spread = whole / 2 + Int64(random() % UInt64(whole))
        retries += 1
        let retryAfter = response?.retryAfter(now: serverTime(now))
        // The lease is not held through a long wait; the failure carries the time of the next attempt.
        if let retryAfter, TimeAmount.seconds(min(retryAfter, 1_000_000)) > ACMELimits.longestFaultPause {
            return fail(failure)
        }
        return wait(Pause(own: .milliseconds(spread), retryAfter: retryAfter), now) ?? fail(failure)
    }

    // MARK: Time

    /// The pause before a call: our own back-off, and the CA's `Retry-After` in seconds.
    struct Pause: Equatable {
        var own: TimeAmount
        var retryAfter: Int64?
    }

    /// Starts a wait, or returns `nil` if no time is left for it. A long `Retry-After` extends the deadline up to the
    /// last one; short ones do not, however many there are.
    private mutating func wait(_ pause: Pause, _ now: Instant) -> Action? {
        var length = pause.own
        var isLong = false
        if let retryAfter = pause.retryAfter {
            let seconds = TimeAmount.seconds(min(retryAfter, 1_000_000))
            length = max(length, max(seconds, ACMELimits.shortestRetryAfter))
            isLong = seconds >= ACMELimits.timeAfterWait
        }
        let end = now.uptime + length
        guard end < (isLong ? lastDeadline : deadline) else { return nil }
        if end >= deadline { deadline = min(lastDeadline, end + ACMELimits.timeAfterWait) }
        phase = .waiting
        return .wait(until: end)
    }

    private mutating func timeoutFailure(_ pause: Pause, _ now: Instant) -> Action {
        let time = serverTime(now)
        let failure = ACMEFailure(
            .timedOut,
            step,
            pause.retryAfter.map { "the CA asks to wait for \($0) seconds" } ?? "the order timed out",
            retry: pause.retryAfter.map { .notBefore(time + $0) }
        )
        return fail(failure)
    }

    private var step: ACMEFailure.Step { call?.step ?? .directory }

    private func failure(_ code: ACMEFailure.Code, _ detail: String) -> ACMEFailure {
        ACMEFailure(code, step, detail)
    }

    private mutating func fail(_ failure: ACMEFailure) -> Action {
        phase = .idle
        return .failed(failure)
    }

    private static func problem(_ response: ACMEResponse) -> ACMEProblem? {
        response.status >= 400 ? try? ACMEProblem(response.body) : nil
    }
}

/// The unused nonces of a CA (RFC 8555 §6.5). The newest is used first.
struct NoncePool {
    private var nonces: [String] = []

    mutating func add(_ nonce: String) {
        if nonces.count == ACMELimits.nonces { nonces.removeFirst() }
        nonces.append(nonce)
    }

    mutating func popNewest() -> String? { nonces.popLast() }

    /// Discards all nonces after one was rejected, since the others are as old.
    mutating func removeAll() { nonces.removeAll() }
}
