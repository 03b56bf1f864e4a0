/// Keys in the order in which they came, each once.
struct KeyQueue {
    private var keys: ArraySlice<StoreKey> = []
    private var members: Set<StoreKey> = []

    var count: Int { keys.count }
    var isEmpty: Bool { keys.isEmpty }

    /// At the end, unless it waits already.
    mutating func append(_ key: StoreKey) {
        if members.insert(key).inserted { keys.append(key) }
    }

    mutating func next() -> StoreKey? {
        guard let key = keys.popFirst() else { return nil }
        members.remove(key)
        return key
    }

    /// Puts these behind the ones that wait already: those have not been looked at for longest.
    mutating func extend(by others: Set<StoreKey>) {
        keys += others.subtracting(members)
        members.formUnion(others)
    }
}
