import Synchronization

/// A suspended caller that is resumed by the first of several results, usually that of a job and that of a deadline.
///
/// The timer of the deadline holds the call, and a job may hold it weakly: if all references are dropped, as when the
/// timers are closed, the caller is resumed with the error given for that.
package final class PendingCall<Value: Sendable, Failure: Error>: Sendable {
    private struct State {
        var continuation: CheckedContinuation<Result<Value, Failure>, Never>?
        var timer: UInt64?
    }

    private let state: Mutex<State>
    private let dropped: Failure

    /// - Parameter dropped: The error if no result ever arrives.
    package init(_ continuation: CheckedContinuation<Result<Value, Failure>, Never>, dropped: Failure) {
        state = Mutex(State(continuation: continuation))
        self.dropped = dropped
    }

    deinit {
        state.withLock { $0.continuation.take() }?.resume(returning: .failure(dropped))
    }

    /// Whether the caller is still suspended.
    package var isWaiting: Bool { state.withLock { $0.continuation != nil } }

    /// Records the timer of the deadline.
    ///
    /// - Returns: `false` if the caller has been resumed: the timer has to be cancelled.
    package func setTimer(_ timer: UInt64) -> Bool {
        state.withLock { state in
            state.timer = timer
            return state.continuation != nil
        }
    }

    /// Resumes the caller, unless another result was first.
    ///
    /// - Returns: The timer of the deadline, which has to be cancelled.
    @discardableResult
    package func resume(_ result: Result<Value, Failure>) -> UInt64? {
        let (continuation, timer) = state.withLock { ($0.continuation.take(), $0.timer) }
        continuation?.resume(returning: result)
        return timer
    }
}
