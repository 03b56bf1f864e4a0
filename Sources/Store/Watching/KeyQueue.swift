/// A first-in, first-out queue of distinct keys.
struct KeyQueue {
    private var keys: ArraySlice<StoreKey> = []
    private var members: Set<StoreKey> = []

    var count: Int { keys.count }
    var isEmpty: Bool { keys.isEmpty }

    /// Appends a key unless it is already queued.
    mutating func append(_ key: StoreKey) {
        if members.insert(key).inserted { keys.append(key) }
    }

    /// Removes and returns the first key.
    mutating func next() -> StoreKey? {
        guard let key = keys.popFirst() else { return nil }
        members.remove(key)
        return key
    }

    /// Appends the keys that are not queued yet, behind the queued ones, which have waited longest.
    mutating func extend(by others: Set<StoreKey>) {
        keys += others.subtracting(members)
        members.formUnion(others)
    }
}
