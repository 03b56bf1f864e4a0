import NIOCore
import Synchronization

/// The changes below a prefix, as an asynchronous sequence of batches, for one consumer.
///
/// A slow consumer delays nothing and loses nothing that matters: of several changes to a key it gets the newest.
package struct StoreChanges: AsyncSequence, Sendable {
    package typealias Element = [StoreChange]
    package typealias Failure = Never

    let feed: ChangeFeed

    package func makeAsyncIterator() -> Iterator { Iterator(feed: feed) }

    package struct Iterator: AsyncIteratorProtocol {
        package typealias Failure = Never

        let feed: ChangeFeed

        package mutating func next() async -> [StoreChange]? { await feed.next() }

        package mutating func next(isolation actor: isolated (any Actor)?) async -> [StoreChange]? {
            await feed.next()
        }
    }
}

/// The buffer between a watch and its consumer: at most one undelivered change per key.
final class ChangeFeed: Sendable {
    private struct State {
        /// The changes that the consumer has not received.
        var pending: [StoreKey: StoreChange] = [:]
        /// The consumer's suspended call of ``next()``.
        var consumer: CheckedContinuation<[StoreChange]?, Never>?
        var isFinished = false
    }

    private let state = Mutex(State())

    /// Delivers changes to the consumer, or keeps them until it asks.
    func offer(_ changes: [StoreChange]) {
        guard !changes.isEmpty else { return }
        let delivery = state.withLock { state -> (CheckedContinuation<[StoreChange]?, Never>, [StoreChange])? in
            for change in changes { state.pending[change.key] = change }
            guard let consumer = state.consumer.take() else { return nil }
            defer { state.pending = [:] }
            return (consumer, state.pending.values.sorted { $0.key < $1.key })
        }
        if let (consumer, batch) = delivery { consumer.resume(returning: batch) }
    }

    /// Ends the sequence.
    func finish() {
        let consumer = state.withLock { state in
            state.isFinished = true
            return state.consumer.take()
        }
        consumer?.resume(returning: nil)
    }

    var isFinished: Bool { state.withLock { $0.isFinished } }

    /// Returns the next batch, or `nil` when the sequence has ended or the task was cancelled.
    func next() async -> [StoreChange]? {
        await withTaskCancellationHandler {
            await withCheckedContinuation { continuation in
                let now = state.withLock { state -> [StoreChange]?? in
                    if !state.pending.isEmpty {
                        defer { state.pending = [:] }
                        return state.pending.values.sorted { $0.key < $1.key }
                    }
                    if state.isFinished || Task.isCancelled { return .some(nil) }
                    precondition(state.consumer == nil, "a sequence of changes has more than one consumer")
                    state.consumer = continuation
                    return .none
                }
                if let now { continuation.resume(returning: now) }
            }
        } onCancel: {
            finish()
        }
    }
}
