package import NIOCore

// MARK: A folder of our own

extension JournalWriter {
    /// Makes the folder of an incarnation with everything in it, and gives it its name in one step.
    ///
    /// - Parameter card: what the replica says of itself beside its heartbeat.
    package func begin(as incarnation: Incarnation, card: [UInt8], now: NIODeadline) throws(StoreError) {
        var first = heartbeat
        first.incarnation = incarnation
        first.sequence = 1
        first.generation = 1
        first.logLength = 0
        first.flags.remove(.rowsNewerThanLog)
        let snapshot = JournalSnapshot.encode(table, incarnation: incarnation, generation: 1)
        let files = ["card": card, "hb": first.file(), "s.1.snap": snapshot, "s.1.log": []]
        let temporary = try volume.writeFolder(files)
        let target = "\(Volume.replicas)/\(incarnation)"
        do {
            try volume.files.rename(temporary, to: target)
        } catch {
            // An incarnation is never used twice: what is there is ours, and the answer was lost.
            try volume.askServer(Volume.replicas)
            guard (try? volume.readFile("\(target)/card", limit: Volume.cardLimit)) == card else {
                volume.erase(temporary)
                throw volume.counted(error)
            }
            volume.count(\.repeatedReplies)
        }
        heartbeat = first
        newCard = nil
        pending = []
        needsFlip = false
        heartbeatIsSuspect = false
        oldGenerations = []
        allocated = 0
        snapshotSize = UInt64(snapshot.count)
        // A folder that a crash takes away is noticed by the next beat like any other that went away.
        try? volume.files.syncFolder(Volume.replicas)
    }

    func writeCard() throws(StoreError) {
        guard let card = newCard else { return }
        try volume.put("\(folder)/card", card)
        newCard = nil
    }

    /// True: two looks past every cache did not find our heartbeat, and the volume itself is there.
    func isFenced() throws(StoreError) -> Bool {
        for _ in 0..<2 {
            try volume.askServer(Volume.replicas)
            do {
                _ = try volume.files.status("\(folder)/hb")
                return false
            } catch {
                guard error.kind == .missing else { throw volume.counted(error) }
            }
        }
        return true
    }
}

// MARK: Heartbeat

extension JournalWriter {
    /// Writes the heartbeat and reads it back, each time by path: a write through a descriptor would succeed after the
    /// folder was renamed away. False: fenced.
    func beat() throws(StoreError) -> Bool {
        let path = "\(folder)/hb"
        try volume.askServer(Volume.replicas)
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
            // Somebody has put something else there: it is replaced.
            case .tooLarge, .refused: break
            default: throw error
            }
        }
        let found = Heartbeat.newest(in: bytes)
        // What others wrote here, or what a copy of this process did: either way this incarnation is not ours alone.
        if let found, found.heartbeat.incarnation != incarnation || found.heartbeat.sequence > heartbeat.sequence {
            return false
        }
        // The number of a beat that failed may be on the disk: it is not used again.
        heartbeat.sequence += 1
        let slot = heartbeat.encoded()
        if let file, let found, !heartbeatIsSuspect, bytes.count == Heartbeat.fileSize {
            do {
                try volume.writeAll(slot[...], to: file, at: found.freeSlot, path)
                try file.syncData()
            } catch {
                heartbeatIsSuspect = true
                throw volume.counted(error)
            }
        } else {
            try volume.put(path, heartbeat.file())
            heartbeatIsSuspect = false
        }
        let back = Heartbeat.newest(in: try volume.readFile(path, limit: Heartbeat.fileSize))?.heartbeat
        guard back == heartbeat else {
            throw StoreError(.transient, volume.shown(path), "does not read back as it was written")
        }
        return true
    }
}

// MARK: Log and generations

extension JournalWriter {
    /// Appends what is pending and makes it durable. It exists when a heartbeat gives the new length.
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
            // What of it is on the disk nobody knows, and a second fdatasync would not tell: a new file. Only a write
            // that found no space has done nothing.
            needsFlip = error.call != .write || error.kind != .full
            throw volume.counted(error)
        }
        heartbeat.logLength = end
        pending = []
    }

    /// Zeros ahead, so that a commit only overwrites: its fdatasync has no sizes to write.
    private func allocate(to end: UInt64, _ file: any OpenFile, _ path: String) throws(FileFault) {
        guard end > allocated else { return }
        let target = (end / pace.logStep + 1) * pace.logStep
        let zeros = [UInt8](repeating: 0, count: 65_536)
        var position = max(allocated, heartbeat.logLength)
        while position < target {
            let count = Int(min(UInt64(zeros.count), target - position))
            try volume.writeAll(zeros[..<count], to: file, at: position, path)
            position += UInt64(count)
            allocated = position
        }
    }

    /// Begins a new generation with the whole table. Readers change over with the next heartbeat.
    func flip(now: NIODeadline) throws(StoreError) {
        let next = heartbeat.generation + 1
        let snapshot = JournalSnapshot.encode(table, incarnation: incarnation, generation: next)
        try volume.put("\(folder)/s.\(next).snap", snapshot)
        try volume.put("\(folder)/s.\(next).log", [])
        // Readers go by the last heartbeat that was written: the time counts from the first that names the new files.
        oldGenerations.append((heartbeat.generation, .distantFuture))
        heartbeat.generation = next
        heartbeat.logLength = 0
        allocated = 0
        snapshotSize = UInt64(snapshot.count)
        pending = []
        needsFlip = false
    }

    func deleteOldFiles(now: NIODeadline) {
        while let oldest = oldGenerations.first, oldest.deleteAt <= now {
            oldGenerations.removeFirst()
            try? volume.files.unlink("\(folder)/s.\(oldest.generation).log")
            try? volume.files.unlink("\(folder)/s.\(oldest.generation).snap")
        }
    }
}
