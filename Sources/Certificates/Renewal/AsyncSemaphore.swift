import Synchronization

/// A limit on the number of tasks that run a section of code at a time. Waiting tasks are resumed in the order in which
/// they arrived.
final class AsyncSemaphore: Sendable {
    private struct State {
        var free: Int
        var waiting: [(number: UInt64, continuation: CheckedContinuation<Bool, Never>)] = []
        var number: UInt64 = 0
    }

    private let state: Mutex<State>

    /// - Parameter count: The number of permits.
    init(_ count: Int) {
        state = Mutex(State(free: count))
    }

    /// Runs `body` while holding a permit.
    ///
    /// - Returns: The result of `body`, or `nil` if the task was cancelled before it had a permit.
    func withPermit<Result: Sendable, Failure: Error>(
        _ body: () async throws(Failure) -> Result
    ) async throws(Failure) -> Result? {
        guard await acquire() else { return nil }
        defer { release() }
        return try await body()
    }

    /// Waits for a permit. Returns `false` if the task was cancelled before it had one.
    private func acquire() async -> Bool {
        let number = state.withLock { state in
            state.number += 1
            return state.number
        }
        return await withTaskCancellationHandler {
            await withCheckedContinuation { continuation in
                let result = state.withLock { state -> Bool? in
                    guard !Task.isCancelled else { return false }
                    guard state.free == 0 else {
                        state.free -= 1
                        return true
                    }
                    state.waiting.append((number, continuation))
                    return nil
                }
                if let result { continuation.resume(returning: result) }
            }
        } onCancel: {
            let waiting = state.withLock { state -> CheckedContinuation<Bool, Never>? in
                guard let index = state.waiting.firstIndex(where: { $0.number == number }) else { return nil }
                return state.waiting.remove(at: index).continuation
            }
            waiting?.resume(returning: false)
        }
    }

    private func release() {
        let next = state.withLock { state -> CheckedContinuation<Bool, Never>? in
            guard !state.waiting.isEmpty else {
                state.free += 1
                return nil
            }
            return state.waiting.removeFirst().continuation
        }
        next?.resume(returning: true)
    }
}
