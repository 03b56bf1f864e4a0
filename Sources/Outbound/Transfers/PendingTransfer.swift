import NIOCore
import Synchronization

/// One request between the calling task and the transfer thread, which share it. The first call of ``finish(_:)``
/// determines the result; later ones are ignored.
final class PendingTransfer: Sendable {
    typealias Outcome = Result<OutboundResponse, OutboundError>

    private enum State {
        case open
        case awaited(CheckedContinuation<Outcome, Never>)
        case finished(Outcome)
        case delivered
    }

    let request: CheckedRequest
    let deadline: NIODeadline
    private let state = Mutex(State.open)

    init(_ request: CheckedRequest, deadline: NIODeadline) {
        self.request = request
        self.deadline = deadline
    }

    var redactedURL: String { request.url.redacted }

    var isFinished: Bool {
        state.withLock {
            switch $0 {
            case .open, .awaited: false
            case .finished, .delivered: true
            }
        }
    }

    /// Sets the outcome and resumes the caller. Does nothing if an outcome has been set. Called from any thread.
    func finish(_ outcome: Outcome) {
        let waiter = state.withLock { state -> CheckedContinuation<Outcome, Never>? in
            switch state {
            case .open:
                state = .finished(outcome)
                return nil
            case .awaited(let continuation):
                state = .delivered
                return continuation
            case .finished, .delivered:
                return nil
            }
        }
        waiter?.resume(returning: outcome)
    }

    /// Waits for the outcome. Called once, by the calling task.
    func result() async -> Outcome {
        await withCheckedContinuation { continuation in
            let outcome = state.withLock { state -> Outcome? in
                switch state {
                case .open:
                    state = .awaited(continuation)
                    return nil
                case .finished(let outcome):
                    state = .delivered
                    return outcome
                case .awaited, .delivered:
                    preconditionFailure("a result is awaited once")
                }
            }
            if let outcome { continuation.resume(returning: outcome) }
        }
    }
}
