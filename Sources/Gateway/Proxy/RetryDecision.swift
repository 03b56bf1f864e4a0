package import HopProtocol
package import Transport

/// What the end of a stream means for the request on it: what the client is told, and whether another attempt is right.
package struct RetryDecision: Equatable, Sendable {
    package enum Retry: Sendable {
        /// It may have run and is not to run again, or nobody else can do better.
        case never
        /// It did not start.
        case always
        /// It may have started.
        case ifIdempotent
    }

    package var refusal: ProxyError
    package var retry: Retry

    package init(_ failure: StreamFailure) {
        switch failure.reason {
        case .refused: self.init(refusal: .refusedByAgent, retry: .always)
        case .sessionEnded:
            self =
                failure.anyByteSent
                ? Self(refusal: .sessionLost, retry: .ifIdempotent) : Self(refusal: .noAgent, retry: .always)
        case .reset(let code): self.init(code: HopCode(wire: code))
        }
    }

    package init(code: HopCode) {
        switch code {
        case .refused, .notHere, .loop, .wrongRun: self.init(refusal: .refusedByAgent, retry: .always)
        case .busy: self.init(refusal: .busy, retry: .always)
        case .unknownService: self.init(refusal: .unknownService, retry: .never)
        case .deadline: self.init(refusal: .deadline, retry: .never)
        case .stale, .alreadyRan: self.init(refusal: .alreadyRan, retry: .never)
        case .originUnreachable: self.init(refusal: .originUnreachable, retry: .never)
        case .originTimeout: self.init(refusal: .originTimeout, retry: .never)
        case .originProtocol: self.init(refusal: .originProtocol, retry: .never)
        case .originAborted, .noError, .cancelled: self.init(refusal: .originAborted, retry: .never)
        case .superseded, .idle, .authFailed: self.init(refusal: .sessionLost, retry: .ifIdempotent)
        case .protocolViolation, .flowControl, .finalSizeError, .internal:
            self.init(refusal: .internalError, retry: .never)
        }
    }

    private init(refusal: ProxyError, retry: Retry) {
        self.refusal = refusal
        self.retry = retry
    }
}
