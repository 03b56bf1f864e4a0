internal import NIOCore
internal import Synchronization

/// One request on its way between the task that asked and the thread that transfers. Whoever finishes it first decides
/// its result.
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

    var shown: String { request.url.shown }

    var isFinished: Bool {
        state.withLock {
            switch $0 {
            case .open, .awaited: false
            case .finished, .delivered: true
            }
        }
    }

    /// Nothing happens when it is finished already.
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

    /// To be called once, by the task that asked.
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
