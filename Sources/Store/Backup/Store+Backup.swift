import NIOCore
import Synchronization

/// The result of a backup.
package struct BackupSummary: Sendable {
    package internal(set) var cluster: String
    package internal(set) var fileCount = 0
    /// The values that were left out, or are there as an earlier version, and why, one line each.
    package internal(set) var notes: [String] = []
    /// The number of values that were left out.
    package internal(set) var leftOutCount = 0
}

extension Store {
    /// Writes the newest version of every value that ``StoreLayout`` keeps, cluster.json and the keys into an archive,
    /// as a restore creates them: sealed values are sealed again as version 1. Each is as it was at one moment; if the
    /// cluster's keys change meanwhile the backup starts over. Values that a gateway would not accept (a wrong MAC, a
    /// file open to others) are left out and noted; of a certificate the newest earlier version is taken that is
    /// intact, which a gateway serves in its place.
    ///
    /// The archive is written on the threads of the store.
    ///
    /// - Parameters:
    ///   - mounted: The keys of a mounted secret, or `nil` if the key is in the store.
    ///   - release: The version of this binary.
    ///   - time: Seconds since 1970.
    package func backup(
        into archive: ArchiveFile,
        mounted: [ClusterKey]?,
        release: String,
        time: UInt64
    ) async throws(StoreError) -> BackupSummary {
        for _ in 0..<3 {
            guard let cluster = try await readCluster(mounted: mounted) else {
                throw StoreError(.notFound, diagnostics.path, "there is no cluster yet, so there is nothing to back up")
            }
            try archive.clear()
            let writer = BackupWriter(TarWriter(archive, time: time), cluster.keyring)
            writer.add([(.cluster, cluster.document(version: 1, listsUnusable: false))])
            for key in cluster.unusableKeys { writer.leaveOut(key.problem) }
            if mounted == nil { writer.add(cluster.keyring.keys.map { (.key(id: $0.id), $0.storedBytes) }) }
            for prefix in StoreLayout.kept {
                try await readAll(prefix) { part, _ in writer.add(part) }
                if let failure = writer.failure { throw failure }
            }
            for (key, error) in writer.damaged {
                var earlier: [StoredValue] = []
                if key.parent == StoreLayout.certificates {
                    do {
                        earlier = try await self.earlier(key, within: .seconds(10))
                    } catch  where !error.isTransient {
                        // Not only the newest version is refused, but the folder.
                    }
                }
                writer.add(key, earlier, insteadOf: error)
            }
            guard try await readCluster(mounted: mounted) == cluster else { continue }
            return try writer.finish(cluster: cluster.id, release: release)
        }
        throw StoreError(.busy, diagnostics.path, "the cluster's keys are changed too often; try again")
    }
}

/// An archive in the making, which several threads add values to.
private final class BackupWriter: Sendable {
    private struct State {
        var tar: TarWriter
        var notes: [String] = []
        var leftOutCount = 0
        var damaged: [(key: StoreKey, error: StoreError)] = []
        var failure: StoreError?
    }

    private let state: Mutex<State>
    private let keyring: ClusterKeyring

    init(_ tar: TarWriter, _ keyring: ClusterKeyring) {
        state = Mutex(State(tar: tar))
        self.keyring = keyring
    }

    /// The failure after which nothing was written any more.
    var failure: StoreError? { state.withLock { $0.failure } }

    /// The values that a gateway would not accept.
    var damaged: [(key: StoreKey, error: StoreError)] { state.withLock { $0.damaged } }

    func add(_ readings: [StoreReading]) {
        var items: [(BackupItem, [UInt8])] = []
        var damaged: [(key: StoreKey, error: StoreError)] = []
        do throws(StoreError) {
            for (key, value) in readings {
                do {
                    items.append((.value(key), try content(of: key, value.get())))
                } catch {
                    switch error.code {
                    case .refused, .tooLarge, .corrupt, .foreign, .badName: damaged.append((key, error))
                    default: throw error
                    }
                }
            }
        } catch {
            state.withLock { $0.failure = error }
        }
        state.withLock { $0.damaged += damaged }
        add(items)
    }

    /// Adds the first of these versions that is intact in the place of a damaged one, and a note.
    func add(_ key: StoreKey, _ earlier: [StoredValue], insteadOf error: StoreError) {
        let found = earlier.lazy.compactMap { [self] value in
            (try? content(of: key, value)).map { (value.version, $0) }
        }.first
        if let found { add([(.value(key), found.1)]) }
        let outcome = found.map { "taken in version \($0.0)" } ?? "left out"
        state.withLock { state in
            state.notes.append("\(outcome): \(error)")
            if found == nil { state.leftOutCount += 1 }
        }
    }

    func leaveOut(_ problem: StoreError) {
        state.withLock { state in
            state.notes.append("left out: \(problem)")
            state.leftOutCount += 1
        }
    }

    func add(_ items: [(BackupItem, [UInt8])]) {
        state.withLock { state in
            guard state.failure == nil else { return }
            do throws(StoreError) {
                for (item, content) in items { try state.tar.add(item.name, content) }
            } catch {
                state.failure = error
            }
        }
    }

    func finish(cluster: String, release: String) throws(StoreError) -> BackupSummary {
        let state = state.withLock { $0 }
        if let failure = state.failure { throw failure }
        let summary = BackupSummary(
            cluster: cluster,
            fileCount: state.tar.count,
            notes: state.notes.sorted(),
            leftOutCount: state.leftOutCount
        )
        try state.tar.finish(cluster: cluster, release: release, with: keyring.signing)
        return summary
    }

    private func content(of key: StoreKey, _ value: StoredValue) throws(StoreError) -> [UInt8] {
        guard SealedDocument.isSealed(key) else { return value.bytes }
        let body = try SealedDocument.open(value, at: key, with: keyring)
        return SealedDocument.seal(body, at: key, version: 1, with: keyring.signing)
    }
}
