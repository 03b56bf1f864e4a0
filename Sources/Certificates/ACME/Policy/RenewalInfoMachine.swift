package import NIOCore

/// Asks a CA when it would like a certificate to be renewed (RFC 9773 section 4). Its owner does what the last action
/// says, as with ``OrderMachine``. Nothing is signed; nothing has to be stored but the outcome.
package struct RenewalInfoMachine: ~Copyable {
    package enum Action: Equatable, Sendable {
        /// Then ``RenewalInfoMachine/received(_:now:)`` or ``RenewalInfoMachine/requestFailed(_:_:now:)``.
        case send(ACMERequest)
        /// Then ``RenewalInfoMachine/waited(now:)``.
        case wait(until: NIODeadline)
        /// The end. Nil: this CA has no renewal information. `pause`: seconds until it may be asked again.
        case answer(ACMERenewalInfo?, pause: Int64)
        /// The end. It is asked again after ``RenewalPolicy/pollPause``; until then the certificate's dates decide.
        case failed(ACMEFailure)
    }

    package private(set) var directory: ACMEDirectory?

    private let url: ACMEURL
    private let renewalID: String
    private var exchange: ACMERequestCycle

    /// - Parameters:
    ///   - url: of the CA's directory.
    ///   - directory: what is known of the CA, not older than some hours.
    ///   - renewalID: ``CertificateFacts/renewalID``.
    package init(
        directoryURL url: ACMEURL,
        directory: ACMEDirectory? = nil,
        renewalID: String,
        random: @escaping @Sendable () -> UInt64
    ) {
        self.url = url
        self.directory = directory
        self.renewalID = renewalID
        exchange = ACMERequestCycle(key: nil, random: random)
    }

    package var clock: ClockSkew { exchange.clock }

    package mutating func start(now: Instant) -> Action {
        exchange.start(now: now)
        guard directory == nil else { return ask(now) }
        return step(exchange.begin(ACMERequestCycle.Call(step: .directory, url: url, content: .get), now: now), now)
    }

    package mutating func received(_ response: ACMEResponse, now: Instant) -> Action {
        step(exchange.received(response, now: now), now)
    }

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

    private mutating func ask(_ now: Instant) -> Action {
        guard let base = directory?.renewalInfo else { return .answer(nil, pause: RenewalPolicy.longestPollPause) }
        let separator = base.text.hasSuffix("/") ? "" : "/"
        guard let target = ACMEURL("\(base)\(separator)\(renewalID)") else {
            return .failed(ACMEFailure(.badAnswer, .renewalInfo, "\(base) is too long to be asked"))
        }
        return step(
            exchange.begin(ACMERequestCycle.Call(step: .renewalInfo, url: target, content: .get), now: now),
            now
        )
    }

    private mutating func step(_ step: ACMERequestCycle.Step, _ now: Instant) -> Action {
        switch step {
        case .send(let request): return .send(request)
        case .wait(let until): return .wait(until: until)
        case .failed(let failure): return .failed(failure)
        case .refused(let problem, _): return .failed(ACMEFailure(problem, .renewalInfo))
        case .answered(let response): return answered(response, now)
        }
    }

    private mutating func answered(_ response: ACMEResponse, _ now: Instant) -> Action {
        do throws(ACMEMessageError) {
            guard directory != nil else {
                directory = try ACMEDirectory(response.body, from: url)
                return ask(now)
            }
            let info = try ACMERenewalInfo(response.body)
            let pause = RenewalPolicy.pollPause(asked: response.retryAfter(now: exchange.authorityTime(now)))
            return .answer(info, pause: pause)
        } catch {
            let step: ACMEFailure.Step = directory == nil ? .directory : .renewalInfo
            return .failed(ACMEFailure(.badAnswer, step, "the CA's answer cannot be used: \(error)"))
        }
    }
}
