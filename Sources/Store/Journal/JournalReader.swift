package import NIOCore

/// The newest heartbeat of a replica, and the time at which the reader saw it move, on the reader's monotonic clock. It
/// is known even while the rows cannot be read.
package struct LastHeartbeat: Equatable, Sendable {
    package var heartbeat: Heartbeat
    package var movedAt: NIODeadline
}

/// The changes of a replica's rows since they were read last.
package enum RowChanges: Equatable, Sendable {
    /// All rows. Rows that are not among them are gone.
    case all(JournalTable)
    /// Changes in their order.
    case records([JournalRecord])
}

extension JournalTable {
    package mutating func apply(_ changes: RowChanges) {
        switch changes {
        case .all(let table): self = table
        case .records(let records): for record in records { apply(record) }
        }
    }
}

/// Reads the journal of one replica.
///
/// The owner calls ``poll()`` about once a second. It reads the heartbeat, then what was appended to the files of its
/// generation, and if it has read one, the heartbeat again, because the writer may have started a new generation
/// meanwhile. The reader keeps no rows, only its position. Confined to one thread at a time.
package final class JournalReader {
    package static let snapshotLimit = 256 << 20
    package static let logLimit = 256 << 20

    package let replica: Incarnation
    /// The newest heartbeat and when it moved, or `nil` if none was read.
    package private(set) var lastHeartbeat: LastHeartbeat?
    /// The heartbeat up to which the rows were returned, or `nil` before the first.
    package private(set) var position: Heartbeat?
    private let volume: Volume
    private let folder: String

    package init(volume: Volume, replica: Incarnation) {
        self.volume = volume
        self.replica = replica
        folder = "\(Volume.replicas)/\(replica)"
    }

    /// Reads the journal once. Returns the changes of the rows, or `nil` if there are none; after an error the next
    /// poll returns them.
    ///
    /// - Throws: `notFound` if the folder is gone, provided that the caller has just revalidated `replicas`.
    package func poll() throws(StoreError) -> RowChanges? {
        for _ in 0..<3 {
            let before = try heartbeat()
            // After a torn write the older slot is the valid one again.
            if let position, before.sequence <= position.sequence { return nil }
            if before.generation == position?.generation, before.logLength == position?.logLength {
                position = before
                return nil
            }
            guard let changes = try changes(until: before) else { continue }
            guard try heartbeat().generation == before.generation else { continue }
            position = before
            return changes
        }
        volume.count(\.transient)
        throw StoreError(
            .transient,
            volume.displayPath(folder),
            "changes faster than it can be read; it is read again later"
        )
    }

    /// Reads the rows as of a heartbeat. Returns `nil` if its files are gone or not visible yet and the poll has to
    /// start over.
    private func changes(until heartbeat: Heartbeat) throws(StoreError) -> RowChanges? {
        let generation = heartbeat.generation
        if let position, position.generation == generation, position.logLength <= heartbeat.logLength {
            return try records(of: generation, from: position.logLength, to: heartbeat.logLength).map { .records($0) }
        }
        let path = "\(folder)/s.\(generation).snap"
        guard let bytes = try bytes(path, from: 0, to: nil) else { return nil }
        guard var table = JournalSnapshot.decode(bytes, incarnation: replica, generation: generation) else {
            throw volume.corrupt(path, "is not a valid snapshot of this replica and generation")
        }
        guard let records = try records(of: generation, from: 0, to: heartbeat.logLength) else { return nil }
        table.apply(.records(records))
        return .all(table)
    }

    private func records(
        of generation: UInt64,
        from start: UInt64,
        to end: UInt64
    ) throws(StoreError) -> [JournalRecord]? {
        guard start < end else { return [] }
        let path = "\(folder)/s.\(generation).log"
        guard let log = try bytes(path, from: start, to: end) else { return nil }
        guard let records = JournalRecord.records(log, from: start, incarnation: replica, generation: generation) else {
            throw volume.corrupt(path, "is damaged before the length that the heartbeat states")
        }
        return records
    }

    private func heartbeat() throws(StoreError) -> Heartbeat {
        let found = try volume.heartbeat(of: replica)
        if found.sequence > lastHeartbeat?.heartbeat.sequence ?? 0 {
            lastHeartbeat = LastHeartbeat(heartbeat: found, movedAt: volume.now())
        }
        return found
    }

    /// Reads a range of a file, or all of it. Returns `nil` if the file does not exist, after asking the server.
    private func bytes(_ path: String, from start: UInt64, to end: UInt64?) throws(StoreError) -> [UInt8]? {
        do throws(StoreError) {
            guard let end else { return try volume.readFile(path, limit: Self.snapshotLimit) }
            guard end - start <= UInt64(Self.logLimit) else {
                throw volume.corrupt(path, "has a larger length in its heartbeat than any log")
            }
            let file = try volume.call { () throws(FileFault) in try volume.files.open(path, .read) }
            try volume.requirePrivate(file.status, path, mode: "600")
            var bytes: [UInt8] = []
            while UInt64(bytes.count) < end - start {
                let position = start + UInt64(bytes.count)
                let rest = Int(end - position)
                let more = try volume.call { () throws(FileFault) in try file.read(at: position, count: rest) }
                guard !more.isEmpty else {
                    throw volume.corrupt(path, "is shorter than its heartbeat states")
                }
                bytes += more
            }
            return bytes
        } catch {
            guard error.code == .notFound || error.fault?.kind == .stale else { throw error }
            try volume.call { () throws(FileFault) in try volume.files.forceSync(folder) }
            return nil
        }
    }
}
