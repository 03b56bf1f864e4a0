/// The values below a prefix, decoded, each the last good one: whoever serves from it keeps serving whatever becomes of
/// the volume or of one file. Sans thread; belongs to one thread at a time.
package final class ValueView<Value> {
    /// What the last look found.
    package struct Report {
        /// Keys whose value is another one now, or gone.
        package var changed: [StoreKey] = []
        /// Keys that could not be read or decoded; their values are the ones before.
        package var problems: [StoreKey: StoreError] = [:]
    }

    package private(set) var values: [StoreKey: Value] = [:]
    private var versions: [StoreKey: UInt64] = [:]
    /// What has changed and was not read since, and whether it is gone.
    private var unread: [StoreKey: Bool] = [:]
    private let volume: Volume
    private let watch: PrefixWatch
    private let decode: (StoreKey, StoredValue) throws(StoreError) -> Value

    /// - Parameter decode: throws for what is damaged, forged or of a newer format.
    package init(
        volume: Volume,
        prefix: StoreKey,
        decode: @escaping (StoreKey, StoredValue) throws(StoreError) -> Value
    ) {
        self.volume = volume
        self.watch = PrefixWatch(volume: volume, prefix: prefix)
        self.decode = decode
    }

    package func announced(_ key: StoreKey) { watch.announced(key) }

    /// Looks once and reads what changed.
    package func poll() throws(StoreError) -> Report {
        let changes = try watch.poll()
        var report = Report()
        report.problems = watch.problems
        for change in changes { unread[change.key] = change.newest == nil }
        for (key, isGone) in unread.sorted(by: { $0.key < $1.key }) {
            do {
                try read(key, isGone: isGone, &report)
            } catch {
                // It is looked at again: a volume that does not answer now will, and what is damaged may be mended.
                report.problems[key] = error
            }
        }
        return report
    }

    /// - Parameter isGone: two looks did not find the key's folder.
    private func read(_ key: StoreKey, isGone: Bool, _ report: inout Report) throws(StoreError) {
        guard let stored = try volume.newest(key, fresh: true) else {
            guard isGone else { throw StoreError(.transient, key.path, "was there a moment ago and cannot be found") }
            return forget(key, &report)
        }
        // An older version than what is known is an old answer, never the truth.
        guard stored.version > versions[key] ?? 0 else {
            unread[key] = nil
            return
        }
        guard !Tombstone.isTombstone(stored.bytes) else { return forget(key, &report) }
        values[key] = try decode(key, stored)
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
