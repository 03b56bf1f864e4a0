import Synchronization

/// A value that a ``PollingThread`` reads again after each interval, usually from a file that may hang. While it cannot
/// be read, the last one stays.
package final class PolledValue<Value: Sendable, Failure: Error & Equatable>: Sendable {
    private struct State {
        var value: Value
        /// The problem of the last reading, or `nil` if it succeeded. Each change is reported once.
        var problem: Failure?
    }

    private let state: Mutex<State>
    private let thread: Mutex<PollingThread?>

    /// - Parameters:
    ///   - initial: The value until the first reading.
    ///   - name: The name of the thread; at most 15 bytes.
    ///   - onChange: Called on the thread with each new problem, and with `nil` when the value can be read again.
    ///   - read: Reads the value on the thread.
    package init(
        _ initial: Value,
        name: String,
        interval: Duration,
        starter: @escaping ThreadStarter = startThread,
        onChange: @escaping @Sendable (Failure?) -> Void = { _ in },
        read: @escaping @Sendable () throws(Failure) -> Value
    ) {
        state = Mutex(State(value: initial))
        thread = Mutex(nil)
        let polling = PollingThread(name: name, interval: interval, starter: starter) { [weak self] in
            self?.update(read, onChange)
        }
        thread.withLock { $0 = polling }
    }

    /// The value that was read last.
    package var value: Value { state.withLock { $0.value } }

    /// The problem of the last reading, or `nil` if it succeeded.
    package var problem: Failure? { state.withLock { $0.problem } }

    /// Starts the thread as ``PollingThread/start()`` does.
    package func start() -> Bool { thread.withLock { $0?.start() ?? true } }

    package func stop() { thread.withLock { $0?.stop() } }

    private func update(_ read: () throws(Failure) -> Value, _ onChange: (Failure?) -> Void) {
        let result = Result(catching: read)
        let (problem, isNew) = state.withLock { state in
            let before = state.problem
            switch result {
            case .success(let value): state = State(value: value)
            case .failure(let error): state.problem = error
            }
            return (state.problem, state.problem != before)
        }
        if isNew { onChange(problem) }
    }
}
