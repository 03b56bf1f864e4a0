package import NIOCore

/// What is known of a replica from its journal. A value: replaced only by a complete one.
package struct ReplicaView: Equatable, Sendable {
    package var heartbeat: Heartbeat
    package var table: JournalTable

    package init(heartbeat: Heartbeat, table: JournalTable) {
        self.heartbeat = heartbeat
        self.table = table
    }
}

/// The newest heartbeat of a replica, and when it was seen to move last on the monotonic clock of whoever looked. It is
/// known even while the rows cannot be read.
package struct LastHeartbeat: Equatable, Sendable {
    package var heartbeat: Heartbeat
    package var movedAt: NIODeadline

    package init(heartbeat: Heartbeat, movedAt: NIODeadline) {
        self.heartbeat = heartbeat
        self.movedAt = movedAt
    }
}

/// Follows the journal of one replica: heartbeat → the files of its generation → heartbeat again. Belongs to one thread
/// at a time.
package final class JournalReader {
    package static let snapshotLimit = 256 << 20
    package static let logLimit = 256 << 20

    package let replica: Incarnation
    /// The last good view; nil before the first.
    package private(set) var view: ReplicaView?
    package private(set) var pulse: LastHeartbeat?
    private let volume: Volume
    private let folder: String

    package init(volume: Volume, replica: Incarnation) {
        self.volume = volume
        self.replica = replica
        self.folder = "\(Volume.replicas)/\(replica)"
    }

    /// Looks once. Returns whether heartbeat or rows are newer than before; the view stays as it was after any error.
    ///
    /// - Throws: `notFound` when the folder is gone, if the caller has asked the server about `replicas` just before.
    package func poll() throws(StoreError) -> Bool {
        for _ in 0..<3 {
            let before = try heartbeat()
            // A slot that was lost to a torn write brings the one before it back; what was seen stays seen.
            if let view, before.sequence <= view.heartbeat.sequence { return false }
            guard let table = try table(for: before) else { continue }
            guard try heartbeat().generation == before.generation else { continue }
            view = ReplicaView(heartbeat: before, table: table)
            return true
        }
        volume.count(\.transient)
        throw StoreError(.transient, volume.shown(folder), "changes faster than it can be read; the next look decides")
    }

    /// The rows as of a heartbeat; nil: its files are gone or not yet to be seen, start over.
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
                throw volume.corrupt(path, "is no snapshot of this replica and generation, or is damaged")
            }
            table = decoded
        }
        guard position < heartbeat.logLength else { return table }
        let path = "\(folder)/s.\(generation).log"
        guard let log = try bytes(path, from: position, to: heartbeat.logLength) else { return nil }
        guard table.apply(log: log, from: position, incarnation: replica, generation: generation) else {
            throw volume.corrupt(path, "is damaged before the length that its heartbeat gives")
        }
        return table
    }

    private func heartbeat() throws(StoreError) -> Heartbeat {
        let found = try volume.heartbeat(of: replica)
        if found.sequence > pulse?.heartbeat.sequence ?? 0 {
            pulse = LastHeartbeat(heartbeat: found, movedAt: volume.now())
        }
        return found
    }

    /// Nil when there is no such file, after the server was asked.
    private func bytes(_ path: String, from start: UInt64, to end: UInt64?) throws(StoreError) -> [UInt8]? {
        do throws(StoreError) {
            guard let end else { return try volume.readFile(path, limit: Self.snapshotLimit) }
            guard end - start <= UInt64(Self.logLimit) else {
                throw volume.corrupt(path, "is said to be larger than any log")
            }
            let file = try volume.call { () throws(FileFault) in try volume.files.open(path, .read) }
            try volume.requirePrivate(file.status, path, mend: "600")
            var bytes: [UInt8] = []
            while UInt64(bytes.count) < end - start {
                let position = start + UInt64(bytes.count)
                let rest = Int(end - position)
                let more = try volume.call { () throws(FileFault) in try file.read(at: position, count: rest) }
                guard !more.isEmpty else {
                    throw volume.corrupt(path, "is shorter than its heartbeat says")
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
