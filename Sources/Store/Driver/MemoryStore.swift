package import NIOCore
import Synchronization

/// A store in the memory of one process, for a single replica without a volume and for tests. Nothing survives the
/// process; otherwise it behaves as ``Store`` specifies, and the conformance tests run against it too.
///
/// Every call takes one lock and returns at once; watches are notified after the lock has been released.
package final class MemoryStore: Store {
    struct Contents {
        /// Values and their newest version numbers; `bytes` is `nil` for a removed value.
        var values: [StoreKey: (version: UInt64, bytes: [UInt8]?)] = [:]
        /// The epoch of each lease's newest holder.
        var epochs: [StoreKey: UInt64] = [:]
        /// The epochs of the leases that are held.
        var holders: [StoreKey: UInt64] = [:]
        var watches: [MemoryWatch] = []
        var isClosed = false
    }

    let contents = Mutex(Contents())

    package init() {}

    package var state: StoreState { .healthy }
    package var diagnostics: StoreDiagnostics { StoreDiagnostics() }

    package func onOperation(_ body: @escaping @Sendable (StoreOperation, TimeAmount) -> Void) {}

    package func selfTest() async throws(StoreError) -> SelfTestReport { SelfTestReport() }

    package func clusterKey(_ id: String, namedBy document: String) async throws(StoreError) -> ClusterKey? { nil }

    package func createClusterKey(_ key: ClusterKey) async throws(StoreError) {
        throw StoreError(.unsupported, "the store", "is in memory and has no key that could be changed")
    }

    package func removeClusterKey(_ id: String) async throws(StoreError) {}

    package func close() {
        let watches = contents.withLock { contents in
            contents.isClosed = true
            defer { contents.watches = [] }
            return contents.watches
        }
        for watch in watches { watch.thread.withLock { $0 = nil } }
    }

    /// Changes the contents under the lock and notifies the watches after releasing it.
    func change<Result: Sendable>(
        _ key: StoreKey,
        _ body: (inout Contents) throws(StoreError) -> Result
    ) throws(StoreError) -> Result {
        let outcome = contents.withLock {
            contents -> Swift.Result<(Result, WatchedChange?, [MemoryWatch]), StoreError> in
            guard !contents.isClosed else { return .failure(StoreError(.closed, key.path, "the store was closed")) }
            do throws(StoreError) {
                let result = try body(&contents)
                return .success((result, contents.newest(key), contents.watches.filter { $0.scope.contains(key) }))
            } catch {
                return .failure(error)
            }
        }
        let (result, change, watches) = try outcome.get()
        if let change { for watch in watches { watch.deliver(WatchBatch(changes: [change])) } }
        return result
    }
}

// MARK: Values

extension MemoryStore {
    package func read(_ key: StoreKey) async throws(StoreError) -> StoredValue {
        let found = contents.withLock { $0.values[key] }
        guard let found, let bytes = found.bytes else { throw Self.notFound(key) }
        return StoredValue(bytes: bytes, version: found.version)
    }

    package func readAll(
        _ prefix: StoreKey,
        _ deliver: @escaping @Sendable (_ part: [StoreReading], _ count: Int) -> Void
    ) async throws(StoreError) {
        let all = contents.withLock { contents in
            contents.values.compactMap { key, value -> StoreReading? in
                guard key.parent == prefix, let bytes = value.bytes else { return nil }
                return (key, .success(StoredValue(bytes: bytes, version: value.version)))
            }
        }
        deliver(all, all.count)
    }

    package func list(_ prefix: StoreKey) async throws(StoreError) -> [StoreKey] {
        contents.withLock { contents in
            contents.values.keys.filter { $0.parent == prefix }.sorted()
        }
    }

    package func write(
        _ key: StoreKey,
        _ change: ValueWrite,
        under lease: (any StoreLease)?
    ) async throws(StoreError) -> UInt64 {
        if let bytes = change.bytes, bytes.count > Volume.valueLimit {
            throw StoreError(.tooLarge, key.path, "a value has at most \(Volume.valueLimit) bytes")
        }
        try await lease?.check()
        return try self.change(key) { contents throws(StoreError) in
            let before = contents.values[key]
            let version = before?.version ?? 0
            switch change {
            case .create:
                guard before?.bytes == nil else {
                    throw StoreError(.exists(newest: version), key.path, "already exists")
                }
            case .replace(let expected, _), .remove(let expected?):
                guard before?.bytes != nil else { throw Self.notFound(key) }
                guard version == expected else { throw Self.conflict(key, version) }
            case .remove(nil): guard before?.bytes != nil else { throw Self.notFound(key) }
            }
            contents.values[key] = (version + 1, change.bytes)
            return version + 1
        }
    }

    private static func notFound(_ key: StoreKey) -> StoreError {
        StoreError(.notFound, key.path, "there is no such value")
    }

    private static func conflict(_ key: StoreKey, _ newest: UInt64) -> StoreError {
        StoreError(.conflict(newest: newest), key.path, "was changed by another writer; read it again")
    }
}
