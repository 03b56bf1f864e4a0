package import NIOCore

/// The valid content of a replica's journal at one heartbeat. Replaced as a whole.
package struct ReplicaView: Equatable, Sendable {
    package var heartbeat: Heartbeat
    package var table: JournalTable

    package init(heartbeat: Heartbeat, table: JournalTable) {
        self.heartbeat = heartbeat
        self.table = table
    }
}

/// The newest heartbeat of a replica, and the time at which the reader saw it move, on the reader's monotonic clock. It
/// is known even while the rows cannot be read.
package struct LastHeartbeat: Equatable, Sendable {
    package var heartbeat: Heartbeat
    package var movedAt: NIODeadline

    package init(heartbeat: Heartbeat, movedAt: NIODeadline) {
        self.heartbeat = heartbeat
        self.movedAt = movedAt
    }
}

/// Reads the journal of one replica.
///
/// The owner calls ``poll()`` about once a second. It reads the heartbeat, the files of its generation (only what was
/// appended, if the generation is the same), and the heartbeat again, because the writer may have started a new
/// generation meanwhile. ``view`` and ``lastHeartbeat`` keep the last valid state even if later polls fail. Confined to
/// one thread at a time.
package final class JournalReader {
    package static let snapshotLimit = 256 << 20
    package static let logLimit = 256 << 20

    package let replica: Incarnation
    /// The last valid view, or `nil` before the first.
    package private(set) var view: ReplicaView?
    /// The newest heartbeat and when it moved, or `nil` if none was read.
    package private(set) var lastHeartbeat: LastHeartbeat?
    private let volume: Volume
    private let folder: String

    package init(volume: Volume, replica: Incarnation) {
        self.volume = volume
        self.replica = replica
        folder = "\(Volume.replicas)/\(replica)"
    }

    /// Reads the journal once. Returns whether heartbeat or rows are newer than before; after any error the view is
    /// unchanged.
    ///
    /// - Throws: `notFound` if the folder is gone, provided that the caller has just revalidated `replicas`.
    package func poll() throws(StoreError) -> Bool {
        for _ in 0..<3 {
            let before = try heartbeat()
            // After a torn write the older slot is the valid one again: keep the newer view.
            if let view, before.sequence <= view.heartbeat.sequence { return false }
            guard let table = try table(for: before) else { continue }
            guard try heartbeat().generation == before.generation else { continue }
            view = ReplicaView(heartbeat: before, table: table)
            return true
        }
        volume.count(\.transient)
        throw StoreError(
            .transient,
            volume.displayPath(folder),
            "changes faster than it can be read; it is read again later"
        )
    }

    /// Returns the rows as of a heartbeat, or `nil` if its files are gone or not visible yet and the poll has to start
    /// over.
    private func table(for heartbeat: Heartbeat) throws(StoreError) -> JournalTable? {
        let generation = heartbeat.generation
        var table: JournalTable
        var position: UInt64 = 0
        if let view, view.heartbeat.generation == generation, view.heartbeat.logLength <= heartbeat.logLength {
            table = view.table
            position = view.heartbeat.logLength
        } else {
            let path = "\(folder)/s.\(generation).snap"
            guard let bytes = try bytes(path, from: 0, to: nil) else { return nil }
            guard let decoded = JournalSnapshot.decode(bytes, incarnation: replica, generation: generation) else {
                throw volume.corrupt(path, "is not a valid snapshot of this replica and generation")
            }
            table = decoded
        }
        guard position < heartbeat.logLength else { return table }
        let path = "\(folder)/s.\(generation).log"
        guard let log = try bytes(path, from: position, to: heartbeat.logLength) else { return nil }
        guard table.apply(log: log, from: position, incarnation: replica, generation: generation) else {
            throw volume.corrupt(path, "is damaged before the length that the heartbeat states")
        }
        return table
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
