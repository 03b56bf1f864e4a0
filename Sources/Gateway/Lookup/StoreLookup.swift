import Credentials
package import NIOCore
package import Store
import Synchronization

/// Reads single values of the store for clients that name something which this replica does not know yet: the token of
/// an agent, or of an HTTP-01 challenge.
///
/// The watch of the store takes a moment to deliver what another process has just written. So the path of a request is:
///
/// 1. An event loop finds nothing in memory for an id, and calls ``read(_:for:on:now:)``.
/// 2. ``run()`` reads the value off the event loops and puts it into memory. Requests for the same id share one read.
/// 3. The returned future is completed on the loop of the request, which then reads the memory again.
///
/// Any client can name any id. Bounded are therefore the concurrent reads, their duration, their rate in total and for
/// each address, and the waiting requests; and a missing id is not read again for a moment. What exceeds a limit is not
/// read: the request is answered from memory, as all are while the store does not respond.
package final class StoreLookup: Sendable {
    /// The maximum number of concurrent reads: if those of all lookups hang, the store has readers left.
    package static let readLimit = 12
    /// The maximum number of waiting requests.
    package static let waiterLimit = 1_024
    /// The number of reads a second. As many may begin at once.
    package static let rate = 64
    /// The timeout of one read.
    package static let timeout = TimeAmount.seconds(2)
    /// The time for which an id that the store does not have is not read again.
    package static let missingLifetime = TimeAmount.milliseconds(250)

    fileprivate struct State {
        /// The requests that wait for each id.
        var waiting: [String: [EventLoopPromise<Void>]] = [:]
        var waiters = 0
        /// The ids that the store did not have, each with the time at which it may be read again. Bounded by ``rate``.
        var missing: [String: NIODeadline] = [:]
        /// Counts the reads for each address.
        var clients = FailureLimiter()
        /// The time at which the next read would begin if all were spread evenly.
        var next = NIODeadline.uptimeNanoseconds(0)
        var isClosed = false
    }

    private let store: any Store
    private let load: @Sendable (String) async throws(StoreError) -> Void
    private let state = Mutex(State())
    private let (ids, arrivals) = AsyncStream<String>.makeStream()

    /// - Parameter load: Reads the value of an id within ``timeout`` and puts it into memory.
    package init(store: any Store, load: @escaping @Sendable (String) async throws(StoreError) -> Void) {
        self.store = store
        self.load = load
    }

    /// Starts to read the value of an id, or joins a read that has started.
    ///
    /// - Parameter loop: The loop of the request, to which the future belongs.
    /// - Returns: A future that succeeds when the memory is up to date, or `nil` if nothing is read.
    package func read(
        _ id: String,
        for client: SocketAddress?,
        on loop: any EventLoop,
        now: NIODeadline
    ) -> EventLoopFuture<Void>? {
        switch store.state {
        case .stalled, .gone: return nil
        case .healthy, .readOnly, .full: break
        }
        let (promise, isFirst) = state.withLock { state -> (EventLoopPromise<Void>?, Bool) in
            let others = state.waiting[id]
            guard !state.isClosed, state.waiters < Self.waiterLimit, others != nil || state.begin(id, client, now)
            else { return (nil, false) }
            let promise = loop.makePromise(of: Void.self)
            state.waiters += 1
            state.waiting[id, default: []].append(promise)
            return (promise, others == nil)
        }
        if isFirst { arrivals.yield(id) }
        return promise?.futureResult
    }

    /// Performs the reads until the task is cancelled, which completes all waiting requests at once. Called once.
    package func run() async {
        await withTaskCancellationHandler {
            await withDiscardingTaskGroup { group in
                for await id in ids { group.addTask { await self.perform(id) } }
            }
        } onCancel: {
            // A read may hang for longer than the event loops run.
            let waiting = state.withLock { state in
                state.isClosed = true
                return state.waiting.keys.flatMap { state.end($0) }
            }
            for promise in waiting { promise.succeed() }
        }
    }

    private func perform(_ id: String) async {
        var isMissing = false
        do throws(StoreError) {
            try await load(id)
        } catch {
            // Other failures may be transient, so the next request reads again.
            isMissing = error.code == .notFound
        }
        let now = NIODeadline.now()
        let waiting = state.withLock { state in
            if isMissing {
                state.missing = state.missing.filter { $0.value > now }
                state.missing[id] = now + Self.missingLifetime
            }
            return state.end(id)
        }
        for promise in waiting { promise.succeed() }
    }
}

extension StoreLookup.State {
    /// Whether a read may begin, which is counted then.
    fileprivate mutating func begin(_ id: String, _ client: SocketAddress?, _ now: NIODeadline) -> Bool {
        let start = max(next, now)
        guard waiting.count < StoreLookup.readLimit, missing[id].map({ $0 <= now }) ?? true,
            start < now + .seconds(1), client.map({ clients.fail(AddressKey($0), id: nil, now: now) == nil }) ?? true
        else { return false }
        next = start + .nanoseconds(1_000_000_000 / Int64(StoreLookup.rate))
        return true
    }

    /// Removes the requests that wait for an id.
    fileprivate mutating func end(_ id: String) -> [EventLoopPromise<Void>] {
        let promises = waiting.removeValue(forKey: id) ?? []
        waiters -= promises.count
        return promises
    }
}
