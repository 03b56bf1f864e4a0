package import HopProtocol
package import Transport
import Tunnel

/// The consequence of the end of a stream for the request on it: the error for the client, and whether another attempt
/// is allowed.
package struct RetryDecision: Equatable, Sendable {
    package enum Retry: Sendable {
        /// The request may have run and must not run again, or another agent could do no better.
        case never
        /// The request did not start.
        case always
        /// The request may have started.
        case ifIdempotent
    }

    package var error: ProxyError
    package var retry: Retry

    package init(_ failure: StreamFailure) {
        switch failure.reason {
        case .refused: self.init(error: .refusedByAgent, retry: .always)
        case .sessionEnded:
            self =
                failure.anyByteSent
                ? Self(error: .sessionLost, retry: .ifIdempotent) : Self(error: .noAgent, retry: .always)
        case .reset(let code): self.init(code: HopCode(code))
        }
    }

    package init(code: HopCode) {
        switch code {
        case .refused, .notHere, .loop, .wrongRun: self.init(error: .refusedByAgent, retry: .always)
        case .busy: self.init(error: .busy, retry: .always)
        case .unknownService: self.init(error: .unknownService, retry: .never)
        case .deadline: self.init(error: .deadline, retry: .never)
        case .stale, .alreadyRan: self.init(error: .alreadyRan, retry: .never)
        case .originUnreachable: self.init(error: .originUnreachable, retry: .never)
        case .originTimeout: self.init(error: .originTimeout, retry: .never)
        case .originProtocol: self.init(error: .originProtocol, retry: .never)
        case .originAborted, .noError, .cancelled: self.init(error: .originAborted, retry: .never)
        case .superseded, .idle, .authFailed: self.init(error: .sessionLost, retry: .ifIdempotent)
        case .protocolViolation, .flowControl, .finalSizeError, .internalError:
            self.init(error: .internalError, retry: .never)
        }
    }

    private init(error: ProxyError, retry: Retry) {
        self.error = error
        self.retry = retry
    }
}
