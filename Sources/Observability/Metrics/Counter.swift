package import Synchronization

/// A number that only grows. Counting is one relaxed atomic add, from any thread.
package final class Counter: Sendable {
    @usableFromInline
    package let storage = Atomic<Int>(0)

    init() {}

    /// Adds `amount`, which is not negative.
    @inlinable
    package func increment(by amount: Int = 1) {
        self.storage.wrappingAdd(amount, ordering: .relaxed)
    }

    @inlinable
    package var value: Int { self.storage.load(ordering: .relaxed) }
}

/// A counter for each case of an enum; the raw value of a case is its label's value.
///
/// A look-up hashes the case: right for a request, too much for a packet, whose owner keeps the ``Counter`` itself.
package struct CounterTable<Key: CaseIterable & Hashable & RawRepresentable<String> & Sendable>: Sendable {
    private let counters: [Key: Counter]

    init(make: (Key) -> Counter) {
        self.counters = Dictionary(uniqueKeysWithValues: Key.allCases.map { ($0, make($0)) })
    }

    package subscript(key: Key) -> Counter {
        guard let counter = self.counters[key] else { preconditionFailure("\(key) is not in allCases") }
        return counter
    }
}
