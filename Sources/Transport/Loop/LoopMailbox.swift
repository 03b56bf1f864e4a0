import Synchronization

/// What one loop tells another: one queue for each ordered pair of loops.
///
/// The sender gathers messages in its own ``Outbox`` during a turn and publishes them at the end: one lock and at most
/// one wake-up for the whole batch. The queue is bounded by what it carries: bytes by each stream's window and high
/// mark, everything else by the number of streams.
package final class LoopMailbox<Message: Sendable>: Sendable {
    private struct State {
        var messages: [Message] = []
        /// The receiver has been woken and has not yet taken the messages.
        var isWakeUpPending = false
    }

    private let state = Mutex(State())

    package init() {}

    /// Moves a batch in; `batch` is empty afterwards, with room to be filled again.
    /// - Returns: whether the receiver must be woken.
    package func publish(_ batch: inout [Message]) -> Bool {
        let mustWake = state.withLock { state in
            if state.messages.isEmpty {
                swap(&state.messages, &batch)
            } else {
                state.messages.append(contentsOf: batch)
            }
            let mustWake = !state.isWakeUpPending
            state.isWakeUpPending = true
            return mustWake
        }
        batch.removeAll(keepingCapacity: true)
        return mustWake
    }

    /// Takes everything. `into` must be empty; its room goes to the next batch.
    package func drain(into batch: inout [Message]) {
        precondition(batch.isEmpty, "a batch was not handled")
        state.withLock { state in
            swap(&state.messages, &batch)
            state.isWakeUpPending = false
        }
    }
}
