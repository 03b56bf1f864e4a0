/// The folder of a lease, which holds one file per epoch.
struct LeaseFolder {
    /// The number of epochs below the newest that are kept. The newest is never deleted.
    static let epochsKept: UInt64 = 8

    let volume: Volume
    let path: String

    init(volume: Volume, name: StoreKey) {
        self.volume = volume
        path = "locks/\(name)"
    }

    func path(of epoch: UInt64) -> String { "\(path)/\(epoch)" }

    /// Returns the epochs in rising order, bypassing every cache.
    func epochs() throws(StoreError) -> [UInt64] {
        try (volume.namesIfPresent(in: path) ?? []).compactMap { name -> UInt64? in
            if let epoch = StoreNumber.parse(name: name) { return epoch }
            volume.count(\.badNames)
            return nil
        }.sorted()
    }

    /// Returns the record in an epoch's file, or `nil` if neither slot is valid or the file is not a regular, private
    /// one.
    func record(_ epoch: UInt64) throws(StoreError) -> (record: LeaseRecord, freeSlot: UInt64)? {
        let bytes: [UInt8]
        do {
            bytes = try volume.readFile(path(of: epoch), limit: LeaseRecord.fileSize)
        } catch {
            switch error.code {
            case .tooLarge, .refused: return nil
            default: throw error
            }
        }
        guard let found = LeaseRecord.newest(in: bytes), found.record.epoch == epoch else {
            volume.count(\.corrupt)
            return nil
        }
        return found
    }

    /// Deletes the folder after the release of an epoch, unless another process has created a newer one.
    func delete(upTo released: UInt64) {
        guard let epochs = try? epochs(), epochs.last == released else { return }
        for epoch in epochs { try? volume.files.unlink(path(of: epoch)) }
        try? volume.files.removeFolder(path)
    }

    func deleteOld(_ epochs: [UInt64]) {
        guard let top = epochs.last else { return }
        for epoch in epochs where top - epoch > Self.epochsKept {
            try? volume.files.unlink(path(of: epoch))
        }
    }
}
