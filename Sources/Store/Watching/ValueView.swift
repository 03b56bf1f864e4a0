/// The decoded values below a prefix, each the last valid one: users keep working with them when the volume
/// or a single file fails. Confined to one thread at a time; creates no threads and no timers.
package final class ValueView<Value> {
    /// The result of a poll.
    package struct Report {
        /// The keys whose value has changed or is gone.
        package var changed: [StoreKey] = []
        /// The keys that could not be read or decoded; their previous values stay in use.
        package var problems: [StoreKey: StoreError] = [:]
    }

    package private(set) var values: [StoreKey: Value] = [:]
    private var versions: [StoreKey: UInt64] = [:]
    /// The keys that changed and were not read since, and whether their folder is gone.
    private var unread: [StoreKey: Bool] = [:]
    private let volume: Volume
    private let watch: PrefixWatch
    private let decode: (StoreKey, StoredValue) throws(StoreError) -> Value

    /// - Parameter decode: Decodes a value; throws if it is damaged, forged or of a newer format.
    package init(
        volume: Volume,
        prefix: StoreKey,
        decode: @escaping (StoreKey, StoredValue) throws(StoreError) -> Value
    ) {
        self.volume = volume
        watch = PrefixWatch(volume: volume, prefix: prefix)
        self.decode = decode
    }

    /// Adds a key that a peer has announced as changed; the next poll inspects it.
    package func enqueue(_ key: StoreKey) { watch.enqueue(key) }

    /// Polls once and reads what changed.
    package func poll() throws(StoreError) -> Report {
        let changes = try watch.poll()
        var report = Report()
        report.problems = watch.problems
        for change in changes { unread[change.key] = change.newest == nil }
        for (key, isGone) in unread.sorted(by: { $0.key < $1.key }) {
            do {
                try read(key, isGone: isGone, &report)
            } catch {
                // The key stays unread and is tried again: the volume may recover and a damaged file may be restored.
                report.problems[key] = error
            }
        }
        return report
    }

    /// - Parameter isGone: Whether two lookups did not find the key's folder.
    private func read(_ key: StoreKey, isGone: Bool, _ report: inout Report) throws(StoreError) {
        guard let stored = try volume.newest(key, fresh: true) else {
            guard isGone else {
                throw StoreError(
                    .transient,
                    key.path,
                    "existed a moment ago and cannot be found; it is read again later"
                )
            }
            return forget(key, &report)
        }
        // A version older than the known one comes from a stale cache.
        guard stored.version > versions[key] ?? 0 else {
            unread[key] = nil
            return
        }
        guard let value = try volume.value(of: stored, key) else { return forget(key, &report) }
        values[key] = try decode(key, value)
        versions[key] = stored.version
        unread[key] = nil
        report.changed.append(key)
    }

    private func forget(_ key: StoreKey, _ report: inout Report) {
        unread[key] = nil
        versions[key] = nil
        if values.removeValue(forKey: key) != nil { report.changed.append(key) }
    }
}
