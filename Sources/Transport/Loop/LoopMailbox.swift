import Synchronization

/// A queue of messages from one loop to another. There is one for each ordered pair of loops.
///
/// The sender collects messages in its ``Outbox`` during a turn and publishes them at the end: one lock and at most one
/// wake-up for the whole batch. Its content bounds the queue: bytes are bounded by each stream's window and high mark,
/// all other messages by the number of streams.
package final class LoopMailbox<Message: Sendable>: Sendable {
    private struct State {
        var messages: [Message] = []
        /// Whether the receiver has been woken and has not yet drained the messages.
        var isWakeUpPending = false
    }

    private let state = Mutex(State())

    package init() {}

    /// Moves a batch into the mailbox. `batch` is empty afterwards and keeps its capacity.
    ///
    /// - Returns: Whether the receiver must be woken.
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

    /// Moves all messages out. `batch` must be empty; its capacity is reused for the next batch.
    package func drain(into batch: inout [Message]) {
        precondition(batch.isEmpty, "a batch was not handled")
        state.withLock { state in
            swap(&state.messages, &batch)
            state.isWakeUpPending = false
        }
    }
}
