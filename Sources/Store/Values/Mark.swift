/// A point in the history of the store, to compare how far processes have acted on what others wrote. Marks are
/// partially ordered.
///
/// On a volume a mark holds, for each writing member, how many of its changes are included.
package struct Mark: Equatable, Sendable {
    /// Members that have written nothing are left out: heartbeats have room for a limited number.
    private(set) var counts: [Incarnation: UInt64]

    /// The mark before all changes.
    package init() {
        counts = [:]
    }

    /// - Parameter counts: The number of changes of each member; for drivers.
    package init(_ counts: [Incarnation: UInt64]) {
        self.counts = counts.filter { $0.value > 0 }
    }

    /// Whether everything that `other` includes is included here.
    package func covers(_ other: Mark) -> Bool {
        other.counts.allSatisfy { counts[$0.key, default: 0] >= $0.value }
    }

    mutating func include(_ count: UInt64, of member: Incarnation) {
        if count > counts[member, default: 0] { counts[member] = count }
    }

    mutating func forget(_ member: Incarnation) { counts[member] = nil }

    /// The changes that both marks include.
    func intersection(_ other: Mark) -> Mark {
        Mark(
            counts.reduce(into: [:]) { common, entry in
                if let count = other.counts[entry.key] { common[entry.key] = min(count, entry.value) }
            }
        )
    }
}
