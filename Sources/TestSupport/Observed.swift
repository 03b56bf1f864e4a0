import Synchronization

/// A value that callbacks on any thread change and that a test waits for.
///
/// Unlike polling with ``eventually(_:within:fileID:line:_:)``, waiting sees every change, also one that is undone at
/// once.
package final class Observed<Value: Sendable>: Sendable {
    private struct State {
        var value: Value
        var waiting: [(condition: @Sendable (Value) -> Bool, matches: AsyncStream<Value>.Continuation)] = []
    }

    private let state: Mutex<State>

    package init(_ value: Value) { state = Mutex(State(value: value)) }

    package var value: Value { state.withLock { $0.value } }

    /// Changes the value, and resumes the tasks whose condition holds for the new one.
    package func update(_ change: (inout Value) -> Void) {
        state.withLock { state in
            change(&state.value)
            let value = state.value
            state.waiting.removeAll { waiting in
                guard waiting.condition(value) else { return false }
                waiting.matches.yield(value)
                return true
            }
        }
    }

    /// Waits until a condition holds.
    ///
    /// - Parameters:
    ///   - expectation: The condition in words, for the error.
    ///   - limit: The time after which the condition has failed.
    ///   - fileID: The file of the caller, for the error.
    ///   - line: The line of the caller, for the error.
    ///   - condition: Called with the current value and after each change, with a lock held.
    /// - Returns: The first value for which the condition holds.
    /// - Throws: ``ConditionTimeout`` after the limit, and `CancellationError` if the task is cancelled.
    @discardableResult
    package func wait(
        _ expectation: String = "the condition holds",
        within limit: Duration = .seconds(20),
        fileID: String = #fileID,
        line: Int = #line,
        until condition: @escaping @Sendable (Value) -> Bool
    ) async throws -> Value {
        let (stream, matches) = AsyncStream.makeStream(of: Value.self, bufferingPolicy: .bufferingOldest(1))
        state.withLock { state in
            if condition(state.value) {
                matches.yield(state.value)
            } else {
                state.waiting.append((condition, matches))
            }
        }
        let timer = Task {
            try await Task.sleep(for: limit)
            matches.finish()
        }
        defer { timer.cancel() }
        for await value in stream { return value }
        try Task.checkCancellation()
        throw ConditionTimeout(expectation, limit, fileID, line, last: "\(value)")
    }
}
