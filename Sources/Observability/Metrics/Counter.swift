package import Synchronization

/// A counter. Incrementing it is one relaxed atomic add, from any thread.
package final class Counter: Sendable {
    @usableFromInline
    package let storage = Atomic<Int>(0)

    init() {}

    /// Adds `amount`, which must not be negative.
    @inlinable
    package func increment(by amount: Int = 1) {
        storage.wrappingAdd(amount, ordering: .relaxed)
    }

    @inlinable
    package var value: Int { storage.load(ordering: .relaxed) }
}

/// A counter for each case of an enum; the case's raw value is the value of the label.
///
/// The subscript hashes the case, which is fine once per request. Code that counts packets keeps the ``Counter``
/// instead.
package struct CounterTable<Key: CaseIterable & Hashable & RawRepresentable<String> & Sendable>: Sendable {
    private let counters: [Key: Counter]

    init(make: (Key) -> Counter) {
        self.counters = Dictionary(uniqueKeysWithValues: Key.allCases.map { ($0, make($0)) })
    }

    package subscript(key: Key) -> Counter {
        guard let counter = counters[key] else { preconditionFailure("\(key) is not in allCases") }
        return counter
    }
}
