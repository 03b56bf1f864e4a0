package import NIOCore

// MARK: A folder of our own

extension JournalWriter {
    /// Creates the folder of an incarnation with all its files, under a temporary name, and publishes it by one rename.
    ///
    /// - Parameters:
    ///   - incarnation: A name that was never used before.
    ///   - info: The information that the replica publishes in addition to its heartbeat.
    package func begin(as incarnation: Incarnation, info: [UInt8], now: NIODeadline) throws(StoreError) {
        var first = heartbeat
        first.incarnation = incarnation
        first.sequence = 1
        first.generation = 1
        first.logLength = 0
        first.flags.remove(.rowsNewerThanLog)
        let snapshot = JournalSnapshot.encode(table, incarnation: incarnation, generation: 1)
        let files = ["card": info, "hb": first.file(), "s.1.snap": snapshot, "s.1.log": []]
        let temporary = try volume.writeFolder(files)
        let target = "\(Volume.replicas)/\(incarnation)"
        do {
            try volume.files.rename(temporary, to: target)
        } catch {
            // Incarnations are unique, so an existing folder is ours and the reply was lost.
            try volume.revalidate(Volume.replicas)
            guard (try? volume.readFile("\(target)/card", limit: Volume.infoLimit)) == info else {
                volume.erase(temporary)
                throw volume.storeError(for: error)
            }
            volume.count(\.repeatedReplies)
        }
        heartbeat = first
        newInfo = nil
        pending = []
        needsNewGeneration = false
        heartbeatIsSuspect = false
        oldGenerations = []
        allocated = 0
        snapshotSize = UInt64(snapshot.count)
        // If a crash loses the folder, the next heartbeat notices it like any other folder that disappeared.
        try? volume.files.syncFolder(Volume.replicas)
    }

    func writeInfo() throws(StoreError) {
        guard let info = newInfo else { return }
        try volume.put("\(folder)/card", info)
        heartbeat.flags.infoRevision &+= 1
        newInfo = nil
    }

    /// Whether the journal is gone: two lookups that bypass every cache do not find the heartbeat, and the volume
    /// itself is there.
    func isFenced() throws(StoreError) -> Bool {
        for _ in 0..<2 {
            try volume.revalidate(Volume.replicas)
            do {
                _ = try volume.files.status("\(folder)/hb")
                return false
            } catch {
                guard error.kind == .missing else { throw volume.storeError(for: error) }
            }
        }
        return true
    }
}

// MARK: Heartbeat

extension JournalWriter {
    /// Writes the heartbeat and reads it back, opening the file by path each time: a write through a kept descriptor
    /// would succeed after the folder was renamed away. Returns `false` if the journal is fenced.
    func writeHeartbeat() throws(StoreError) -> Bool {
        let path = "\(folder)/hb"
        try volume.revalidate(Volume.replicas)
        var bytes: [UInt8] = []
        var file: (any OpenFile)?
        do throws(StoreError) {
            let opened = try volume.call { () throws(FileFault) in try volume.files.open(path, .update) }
            bytes = try volume.contents(of: opened, path, limit: Heartbeat.fileSize).bytes
            file = opened
        } catch {
            switch error.code {
            case .notFound:
                if try isFenced() { return false }
                throw error
            // Another user has put something else there: replace it.
            case .tooLarge, .refused: break
            default: throw error
            }
        }
        let found = Heartbeat.newest(in: bytes)
        // Either another process or a copy of this one has written here: the incarnation is no longer ours alone.
        if let found, found.heartbeat.incarnation != incarnation || found.heartbeat.sequence > heartbeat.sequence {
            return false
        }
        // The number of a heartbeat that failed may be on the disk, so it is not used again.
        heartbeat.sequence += 1
        let slot = heartbeat.encoded()
        if let file, let found, !heartbeatIsSuspect, bytes.count == Heartbeat.fileSize {
            do {
                try volume.writeAll(slot[...], to: file, at: found.freeSlot, path)
                try file.syncData()
            } catch {
                // A write that found no space has had no effect, and a replacement would find none, either.
                heartbeatIsSuspect = error.call != .write || error.kind != .full
                throw volume.storeError(for: error)
            }
        } else {
            try volume.put(path, heartbeat.file())
            heartbeatIsSuspect = false
        }
        let back = Heartbeat.newest(in: try volume.readFile(path, limit: Heartbeat.fileSize))?.heartbeat
        guard back == heartbeat else {
            throw StoreError(.transient, volume.displayPath(path), "does not read back as it was written")
        }
        return true
    }
}

// MARK: Log and generations

extension JournalWriter {
    /// Appends the pending records and makes them durable. They become part of the journal when a heartbeat states the
    /// new length.
    func append() throws(StoreError) {
        guard !pending.isEmpty else { return }
        let start = heartbeat.logLength
        var bytes: [UInt8] = []
        for record in pending {
            let offset = start + UInt64(bytes.count)
            record.append(to: &bytes, incarnation: incarnation, generation: heartbeat.generation, offset: offset)
        }
        let end = start + UInt64(bytes.count)
        let path = "\(folder)/s.\(heartbeat.generation).log"
        let file = try volume.call { () throws(FileFault) in try volume.files.open(path, .update) }
        do throws(FileFault) {
            try allocate(to: end, file, path)
            try volume.writeAll(bytes[...], to: file, at: start, path)
            try file.syncData()
        } catch {
            // It is unknown how much is on the disk, and a second fdatasync would not help: start a new file. Only a
            // write that found no space has had no effect.
            needsNewGeneration = error.call != .write || error.kind != .full
            throw volume.storeError(for: error)
        }
        heartbeat.logLength = end
        pending = []
    }

    /// Fills the log with zeros ahead of its end, so that a commit only overwrites and its fdatasync need not write
    /// sizes.
    private func allocate(to end: UInt64, _ file: any OpenFile, _ path: String) throws(FileFault) {
        guard end > allocated else { return }
        let target = (end / pace.logAllocationStep + 1) * pace.logAllocationStep
        let zeros = [UInt8](repeating: 0, count: 65_536)
        var position = max(allocated, heartbeat.logLength)
        while position < target {
            let count = Int(min(UInt64(zeros.count), target - position))
            try volume.writeAll(zeros[..<count], to: file, at: position, path)
            position += UInt64(count)
            allocated = position
        }
    }

    /// Starts a new generation with the whole table. Readers switch to it with the next heartbeat.
    func startGeneration(now: NIODeadline) throws(StoreError) {
        let next = heartbeat.generation + 1
        let snapshot = JournalSnapshot.encode(table, incarnation: incarnation, generation: next)
        try volume.put("\(folder)/s.\(next).snap", snapshot)
        try volume.put("\(folder)/s.\(next).log", [])
        // Readers use the files of the last heartbeat written, so the time counts from the first that names the new
        // files.
        oldGenerations.append((heartbeat.generation, .distantFuture))
        heartbeat.generation = next
        heartbeat.logLength = 0
        allocated = 0
        snapshotSize = UInt64(snapshot.count)
        pending = []
        needsNewGeneration = false
    }

    func deleteOldFiles(now: NIODeadline) {
        while let oldest = oldGenerations.first, oldest.deleteAt <= now {
            oldGenerations.removeFirst()
            try? volume.files.unlink("\(folder)/s.\(oldest.generation).log")
            try? volume.files.unlink("\(folder)/s.\(oldest.generation).snap")
        }
    }
}
