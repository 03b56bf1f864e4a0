import Threads

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
