internal import NIOCore
internal import Synchronization

/// The changes below a prefix, as an asynchronous sequence of batches. A slow consumer misses nothing and holds nothing
/// up: of several changes to a key it gets the newest. For one consumer.
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

/// What a watch found and the consumer has not taken; at most one change a key.
final class ChangeFeed: Sendable {
    private struct State {
        var waiting: [StoreKey: StoreChange] = [:]
        var consumer: CheckedContinuation<[StoreChange]?, Never>?
        var isFinished = false
    }

    private let state = Mutex(State())

    func offer(_ changes: [StoreChange]) {
        guard !changes.isEmpty else { return }
        let delivery = state.withLock { state -> (CheckedContinuation<[StoreChange]?, Never>, [StoreChange])? in
            for change in changes { state.waiting[change.key] = change }
            guard let consumer = state.consumer.take() else { return nil }
            defer { state.waiting = [:] }
            return (consumer, state.waiting.values.sorted { $0.key < $1.key })
        }
        if let (consumer, batch) = delivery { consumer.resume(returning: batch) }
    }

    func finish() {
        let consumer = state.withLock { state in
            state.isFinished = true
            return state.consumer.take()
        }
        consumer?.resume(returning: nil)
    }

    var isFinished: Bool { state.withLock { $0.isFinished } }

    func next() async -> [StoreChange]? {
        await withTaskCancellationHandler {
            await withCheckedContinuation { continuation in
                let now = state.withLock { state -> [StoreChange]?? in
                    if !state.waiting.isEmpty {
                        defer { state.waiting = [:] }
                        return state.waiting.values.sorted { $0.key < $1.key }
                    }
                    if state.isFinished || Task.isCancelled { return .some(nil) }
                    precondition(state.consumer == nil, "a sequence of changes has one consumer")
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
