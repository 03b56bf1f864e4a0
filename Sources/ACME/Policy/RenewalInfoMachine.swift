package import Formats
package import NIOCore

/// The state machine of one request for renewal information (RFC 9773 §4): fetches the directory if it is not known,
/// then the suggested window of one certificate.
///
/// It is driven like ``OrderMachine``: each input method returns one ``Action``, the owner performs it and reports the
/// result with the method that the action's comment names. ``Action/completed(_:pause:)`` and ``Action/failed(_:)`` end
/// the machine. Requests are not signed, so neither an account nor a lease is needed, and only the result is stored.
package struct RenewalInfoMachine: ACMEMachine, ~Copyable {
    package enum Action: ACMEAction, Equatable {
        /// Send the request. Next: ``RenewalInfoMachine/received(_:now:)`` or
        /// ``RenewalInfoMachine/requestFailed(_:_:now:)``.
        case send(ACMERequest)
        /// Wait until the deadline. Next: ``RenewalInfoMachine/waited(now:)``.
        case wait(until: NIODeadline)
        /// The renewal information, or `nil` if the CA offers none. `pause` is the time in seconds until the next
        /// request.
        case completed(ACMERenewalInfo?, pause: Int64)
        /// The request failed. The next one is due after ``RenewalPolicy/pollPause``; until then the certificate's
        /// dates decide.
        case failed(ACMEFailure)

        package var exchange: ACMEExchange? {
            switch self {
            case .send(let request): .send(request)
            case .wait(let until): .wait(until: until)
            case .completed, .failed: nil
            }
        }
    }

    package private(set) var directory: ACMEDirectory?

    private let url: ACMEURL
    private let renewalID: String
    private var requests: ACMERequestCycle

    /// - Parameters:
    ///   - url: The URL of the CA's directory.
    ///   - directory: The CA's directory, if known and at most some hours old.
    ///   - renewalID: The certificate's ``CertificateFacts/renewalID``.
    package init(
        directoryURL url: ACMEURL,
        directory: ACMEDirectory? = nil,
        renewalID: String,
        random: @escaping @Sendable () -> UInt64
    ) {
        self.url = url
        self.directory = directory
        self.renewalID = renewalID
        requests = ACMERequestCycle(key: nil, random: random)
    }

    package var clock: ClockSkew? { requests.clock }

    package mutating func start(now: Instant) -> Action {
        requests.start(now: now)
        guard directory == nil else { return requestRenewalInfo(now) }
        return handle(requests.begin(ACMERequestCycle.Call(step: .directory, url: url, content: .get), now: now), now)
    }

    package mutating func received(_ response: ACMEResponse, now: Instant) -> Action {
        handle(requests.received(response, now: now), now)
    }

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

    private mutating func requestRenewalInfo(_ now: Instant) -> Action {
        guard let base = directory?.renewalInfo else { return .completed(nil, pause: RenewalPolicy.longestPollPause) }
        let separator = base.text.hasSuffix("/") ? "" : "/"
        guard let target = ACMEURL("\(base)\(separator)\(renewalID)") else {
            return .failed(ACMEFailure(.badAnswer, .renewalInfo, "\(base) is too long for a request"))
        }
        return handle(
            requests.begin(ACMERequestCycle.Call(step: .renewalInfo, url: target, content: .get), now: now),
            now
        )
    }

    private mutating func handle(_ action: ACMERequestCycle.Action, _ now: Instant) -> Action {
        switch action {
        case .send(let request): return .send(request)
        case .wait(let until): return .wait(until: until)
        case .failed(let failure): return .failed(failure)
        case .rejected(let problem, _): return .failed(ACMEFailure(problem, .renewalInfo))
        case .succeeded(let response): return handleSuccess(response, now)
        }
    }

    private mutating func handleSuccess(_ response: ACMEResponse, _ now: Instant) -> Action {
        do throws(ACMEMessageError) {
            guard directory != nil else {
                directory = try ACMEDirectory(response.body, from: url)
                return requestRenewalInfo(now)
            }
            let info = try ACMERenewalInfo(response.body)
            let pause = RenewalPolicy.pollPause(retryAfter: response.retryAfter(now: requests.serverTime(now)))
            return .completed(info, pause: pause)
        } catch {
            let step: ACMEFailure.Step = directory == nil ? .directory : .renewalInfo
            return .failed(ACMEFailure(.badAnswer, step, "the CA's answer cannot be used: \(error)"))
        }
    }
}

/// The window in which a CA suggests to renew a certificate (RFC 9773 §4.2). A window in the past means immediately;
/// CAs send one for certificates that are or will soon be revoked.
package struct ACMERenewalInfo: Equatable, Sendable {
    package let start: UnixTime
    /// The end of the window, which is later than its start.
    package let end: UnixTime
    /// The URL of an explanation, for display only.
    package let explanation: String?

    package init(_ bytes: [UInt8]) throws(ACMEMessageError) {
        let reader = try DocumentReader(bytes, "renewalInfo")
        guard let window = try reader.object("suggestedWindow") else {
            throw reader.error("suggestedWindow", "is missing")
        }
        start = try window.time("start")
        end = try window.time("end")
        guard start < end else { throw window.error("end", "is not behind the start") }
        explanation = try reader.displayText("explanationURL")
    }
}
