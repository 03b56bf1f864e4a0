import NIOCore
import NIOPosix
import Synchronization
import Testing

/// A condition that another thread makes true; a test waits for it with a deadline and never sleeps.
final class Signal<Value: Sendable>: Sendable {
    private struct State {
        var value: Value
        var waiters: [(condition: @Sendable (Value) -> Bool, promise: EventLoopPromise<Value>)] = []
    }

    private let state: Mutex<State>

    init(_ value: Value) {
        self.state = Mutex(State(value: value))
    }

    var value: Value { self.state.withLock { $0.value } }

    func update(_ change: (inout Value) -> Void) {
        let ready = self.state.withLock { state in
            change(&state.value)
            let value = state.value
            let ready = state.waiters.filter { $0.condition(value) }
            state.waiters.removeAll { $0.condition(value) }
            return ready.map { ($0.promise, value) }
        }
        for (promise, value) in ready { promise.succeed(value) }
    }

    /// The first value for which `condition` holds; records an issue and returns the current one after `limit`.
    @discardableResult
    func wait(
        _ what: String,
        limit: TimeAmount = .seconds(20),
        sourceLocation: SourceLocation = #_sourceLocation,
        until condition: @escaping @Sendable (Value) -> Bool
    ) async -> Value {
        let loop = MultiThreadedEventLoopGroup.singleton.next()
        let promise = loop.makePromise(of: Value.self)
        let now = self.state.withLock { state -> Value? in
            if condition(state.value) { return state.value }
            state.waiters.append((condition, promise))
            return nil
        }
        if let now {
            promise.succeed(now)
            return now
        }
        let timer = loop.scheduleTask(in: limit) { promise.fail(TimedOut()) }
        defer { timer.cancel() }
        do {
            return try await promise.futureResult.get()
        } catch {
            Issue.record("not in \(limit): \(what); last: \(self.value)", sourceLocation: sourceLocation)
            return self.value
        }
    }

    private struct TimedOut: Error {}
}

/// Asks again and again, without blocking a thread, until `condition` holds or `limit` is over.
func eventually(
    _ what: String,
    limit: TimeAmount = .seconds(20),
    sourceLocation: SourceLocation = #_sourceLocation,
    _ condition: @escaping @Sendable () -> Bool
) async {
    let loop = MultiThreadedEventLoopGroup.singleton.next()
    let deadline = NIODeadline.now() + limit
    let promise = loop.makePromise(of: Bool.self)
    loop.scheduleRepeatedTask(initialDelay: .zero, delay: .milliseconds(2)) { task in
        if condition() {
            task.cancel()
            promise.succeed(true)
        } else if NIODeadline.now() > deadline {
            task.cancel()
            promise.succeed(false)
        }
    }
    let held = (try? await promise.futureResult.get()) ?? false
    if !held { Issue.record("not in \(limit): \(what)", sourceLocation: sourceLocation) }
}

/// Expects a condition that has to be awaited.
func expect(
    sourceLocation: SourceLocation = #_sourceLocation,
    _ condition: () async throws -> Bool
) async throws {
    let held = try await condition()
    #expect(held, sourceLocation: sourceLocation)
}
