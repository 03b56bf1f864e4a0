import Synchronization

/// A signal that wakes the one task that waits for it. Signals that are sent while no task waits are coalesced into
/// one, and the next wait returns at once.
///
/// Any thread and any number of tasks may call ``send()``; at most one task waits at a time.
package final class AsyncSignal: Sendable {
    private struct State {
        var isPending = false
        var lastNumber: UInt64 = 0
        var waiter: (number: UInt64, continuation: CheckedContinuation<Bool, Never>)?
    }

    private let state = Mutex(State())

    package init() {}

    package func send() {
        let waiter = state.withLock { state in
            state.isPending = state.waiter == nil
            defer { state.waiter = nil }
            return state.waiter
        }
        waiter?.continuation.resume(returning: true)
    }

    /// Discards a pending signal. Called before the reason for it is looked at, which then needs no second look.
    package func clear() { state.withLock { $0.isPending = false } }

    /// Waits for a signal.
    ///
    /// - Returns: `false` if the task is cancelled and no signal is pending, so that a loop can end:
    ///   `while await signal.wait() { … }`.
    @discardableResult
    package func wait() async -> Bool {
        let number = state.withLock { state in
            state.lastNumber += 1
            return state.lastNumber
        }
        return await withTaskCancellationHandler {
            await withCheckedContinuation { continuation in
                let result = state.withLock { state -> Bool? in
                    if state.isPending {
                        state.isPending = false
                        return true
                    }
                    guard !Task.isCancelled else { return false }
                    precondition(state.waiter == nil, "two tasks wait for one signal")
                    state.waiter = (number, continuation)
                    return nil
                }
                if let result { continuation.resume(returning: result) }
            }
        } onCancel: {
            let waiter = state.withLock { state -> CheckedContinuation<Bool, Never>? in
                guard let waiter = state.waiter, waiter.number == number else { return nil }
                state.waiter = nil
                return waiter.continuation
            }
            waiter?.resume(returning: false)
        }
    }

    /// Waits for a signal, for the end of `limit`, or for the cancellation of the task.
    package func wait(atMost limit: Duration) async {
        await withTaskGroup(of: Void.self) { group in
            group.addTask { try? await Task.sleep(for: limit) }
            group.addTask { await self.wait() }
            await group.next()
            group.cancelAll()
        }
    }
}
