import Synchronization
import Threads

/// A value that test code changes on any thread and waits for.
final class Observed<Value: Sendable>: Sendable {
    private let value: Mutex<Value>

    init(_ value: Value) { self.value = Mutex(value) }

    var current: Value { value.withLock { $0 } }

    func update(_ change: (inout Value) -> Void) { value.withLock { change(&$0) } }

    /// Waits until the condition holds.
    ///
    /// - Returns: `false` if it does not within ten seconds.
    func becomes(_ condition: (Value) -> Bool) async -> Bool {
        let deadline = ContinuousClock.now + .seconds(10)
        while !condition(current) {
            guard ContinuousClock.now < deadline else { return false }
            try? await Task.sleep(for: .milliseconds(1))
        }
        return true
    }
}

/// A gate that blocks threads until it is opened.
final class Gate: @unchecked Sendable {
    private let condition = ThreadCondition()
    private var isOpen = false

    func open() {
        condition.withLock {
            isOpen = true
            condition.broadcast()
        }
    }

    func pass() {
        condition.withLock { while !isOpen { condition.wait() } }
    }
}
