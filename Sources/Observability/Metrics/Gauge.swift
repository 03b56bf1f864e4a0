package import Synchronization

/// A gauge. Every change is one relaxed atomic operation, from any thread.
package final class Gauge: Sendable {
    @usableFromInline
    package let storage = Atomic<Int>(0)

    init() {}

    @inlinable
    package func increment(by amount: Int = 1) {
        storage.wrappingAdd(amount, ordering: .relaxed)
    }

    @inlinable
    package func decrement(by amount: Int = 1) {
        storage.wrappingSubtract(amount, ordering: .relaxed)
    }

    @inlinable
    package func set(_ value: Int) {
        storage.store(value, ordering: .relaxed)
    }

    @inlinable
    package var value: Int { storage.load(ordering: .relaxed) }
}
