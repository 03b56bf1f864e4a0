import Synchronization

/// A value that a ``PollingThread`` reads again after each interval, usually from a file that may hang. While it cannot be
/// read, the last one stays.
package final class PolledValue<Value: Sendable, Failure: Error & Equatable>: Sendable {
    private struct State {
        var value: Value
        /// The problem of the last reading; each is reported once.
        var problem: Failure?
    }

    private let state: Mutex<State>
    private let thread: Mutex<PollingThread?>

    /// - Parameters:
    ///   - initial: The value until the first reading.
    ///   - name: The name of the thread; at most 15 bytes.
    ///   - onProblem: Called once for each new problem, on the thread.
    ///   - read: Reads the value on the thread.
    package init(
        _ initial: Value,
        name: String,
        interval: Duration,
        starter: @escaping ThreadStarter = startThread,
        onProblem: @escaping @Sendable (Failure) -> Void,
        read: @escaping @Sendable () throws(Failure) -> Value
    ) {
        state = Mutex(State(value: initial))
        thread = Mutex(nil)
        let polling = PollingThread(name: name, interval: interval, starter: starter) { [weak self] in
            self?.update(read, onProblem)
        }
        thread.withLock { $0 = polling }
    }

    /// The value that was read last.
    package var value: Value { state.withLock { $0.value } }

    /// Starts the thread as ``PollingThread/start()`` does.
    package func start() -> Bool { thread.withLock { $0?.start() ?? true } }

    package func stop() { thread.withLock { $0?.stop() } }

    private func update(_ read: () throws(Failure) -> Value, _ onProblem: (Failure) -> Void) {
        do throws(Failure) {
            let value = try read()
            state.withLock { $0 = State(value: value) }
        } catch {
            let isNew = state.withLock { state in
                defer { state.problem = error }
                return state.problem != error
            }
            if isNew { onProblem(error) }
        }
    }
}
