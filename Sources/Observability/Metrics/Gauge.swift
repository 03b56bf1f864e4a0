package import Synchronization

/// A number that goes up and down. Every change is one relaxed atomic operation, from any thread.
package final class Gauge: Sendable {
    @usableFromInline
    package let storage = Atomic<Int>(0)

    init() {}

    @inlinable
    package func increment(by amount: Int = 1) {
        self.storage.wrappingAdd(amount, ordering: .relaxed)
    }

    @inlinable
    package func decrement(by amount: Int = 1) {
        self.storage.wrappingSubtract(amount, ordering: .relaxed)
    }

    @inlinable
    package func set(_ value: Int) {
        self.storage.store(value, ordering: .relaxed)
    }

    @inlinable
    package var value: Int { self.storage.load(ordering: .relaxed) }
}
