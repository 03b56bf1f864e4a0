import Formats
package import NIOCore
import Synchronization

/// A folder on a volume that many machines write, and the rules by which they do so: one writer a file, except shared
/// keys, which are folders of numbered versions made by link(2); publication is temporary file → fsync → rename or link
/// → fsync of the folder; a reader sees all or nothing.
///
/// Every call blocks, perhaps for ever: the threads of a ``VolumeStore`` make them, command lines, and tests. No wall
/// clock is read and no modification time; durations are those of the monotonic clock that is given.
package final class Volume: Sendable {
    package let files: any FileSystem
    /// The monotonic clock of this process.
    package let now: @Sendable () -> NIODeadline
    let random: @Sendable () -> UInt64
    private let counted = Mutex(StoreCounts())
    /// When this process saw which version on top; see `prune`.
    let supersession = Mutex([String: Supersession]())

    /// - Parameters:
    ///   - files: its root is `STORE/v1`.
    ///   - random: 64 random bits a call, for names and nonces.
    package init(
        files: any FileSystem,
        now: @escaping @Sendable () -> NIODeadline = { NIODeadline.now() },
        random: @escaping @Sendable () -> UInt64 = { UInt64.random(in: .min ... .max) }
    ) {
        self.files = files
        self.now = now
        self.random = random
    }

    package var counts: StoreCounts { counted.withLock { $0 } }

    func count(_ counter: any WritableKeyPath<StoreCounts, UInt64> & Sendable) {
        counted.withLock { $0[keyPath: counter] &+= 1 }
    }

    /// The path as people are told of it.
    func shown(_ path: String) -> String { path.isEmpty ? files.root : "\(files.root)/\(path)" }
}

/// What was refused and what went wrong since the process started.
package struct StoreCounts: Equatable, Sendable {
    /// Files and folders that others may read or write, symbolic links, pipes.
    package var refused: UInt64 = 0
    package var tooLarge: UInt64 = 0
    /// Names in our folders that are not ours.
    package var badNames: UInt64 = 0
    /// Wrong checksums, formats and MACs.
    package var corrupt: UInt64 = 0
    /// EIO, ESTALE and their like.
    package var transient: UInt64 = 0
    /// Replies that were repeated: EEXIST or ENOENT for something that had succeeded.
    package var repeatedReplies: UInt64 = 0
    package var conflicts: UInt64 = 0
    package var published: UInt64 = 0

    package init() {}
}

// MARK: Reading

extension Volume {
    /// Names in a folder; one that holds more is not ours.
    static let nameLimit = 200_000

    /// All bytes of a plain file that nobody else may read or write.
    func readFile(_ path: String, limit: Int) throws(StoreError) -> [UInt8] {
        do throws(StoreError) {
            let file: any OpenFile = try call { () throws(FileFault) in try files.open(path, .read) }
            return try contents(of: file, path, limit: limit).bytes
        } catch {
            guard error.fault?.kind == .stale else { throw error }
        }
        // A cached name of a file that was replaced: ask for the name anew, once.
        try call { () throws(FileFault) in try files.forceSync(Self.folder(of: path)) }
        let file: any OpenFile = try call { () throws(FileFault) in try files.open(path, .read) }
        return try contents(of: file, path, limit: limit).bytes
    }

    /// - Parameter path: put together only where something is wrong.
    func contents(
        of file: any OpenFile,
        _ path: @autoclosure () -> String,
        limit: Int
    ) throws(StoreError) -> (bytes: [UInt8], status: FileStatus) {
        let status = file.status
        if status.isOpenToOthers { try requirePrivate(status, path(), mend: "600") }
        guard status.size <= UInt64(limit) else { throw tooLarge(path(), limit) }
        // One byte more than it had a moment ago: a full answer is known to end there without asking again.
        let expected = Int(status.size)
        var bytes = try call { () throws(FileFault) in try file.read(at: 0, count: expected + 1) }
        while bytes.count != expected {
            guard bytes.count <= limit else { throw tooLarge(path(), limit) }
            let position = UInt64(bytes.count)
            let more = try call { () throws(FileFault) in try file.read(at: position, count: 65_536) }
            guard !more.isEmpty else { break }
            bytes += more
        }
        return (bytes, status)
    }

    private func tooLarge(_ path: String, _ limit: Int) -> StoreError {
        count(\.tooLarge)
        return StoreError(.tooLarge, shown(path), "is larger than the \(limit) bytes that such a file may have")
    }

    /// The names in a folder of ours, dot files left out, what is no name of ours counted and left out.
    ///
    /// - Parameter fresh: asks the server first; an answer that matters is never taken from a cache.
    func names(in folder: String, fresh: Bool, limit: Int = nameLimit) throws(StoreError) -> [String] {
        let listing = try call { () throws(FileFault) in try files.list(folder, fresh: fresh, limit: limit) }
        return try names(of: listing, in: folder)
    }

    func names(of listing: FolderListing, in folder: String) throws(StoreError) -> [String] {
        try requirePrivate(listing.status, folder, mend: "700")
        return listing.names.filter { name in
            if StoreKey.isComponent(name) { return true }
            if !name.hasPrefix(".") { count(\.badNames) }
            return false
        }
    }

    /// The same, past every cache; nil when there is no such folder, which the server has said twice while it had the
    /// folder above.
    ///
    /// - Throws: `gone` when the store itself is not there: an empty mount point looks like a store without anything in it.
    func namesIfPresent(in folder: String) throws(StoreError) -> [String]? {
        for _ in 0..<2 {
            guard try isPresent(Self.folder(of: folder)) else { return nil }
            do {
                return try names(in: folder, fresh: true)
            } catch {
                guard error.code == .notFound else { throw error }
            }
        }
        return nil
    }

    /// Asks the server about a folder, so that "not there" below it is no older than this call. False: there is none.
    private func isPresent(_ folder: String) throws(StoreError) -> Bool {
        do {
            try files.forceSync(folder)
            return true
        } catch {
            guard error.kind == .missing else { throw counted(error) }
            guard !folder.isEmpty else { throw gone(error) }
        }
        guard try isPresent(Self.folder(of: folder)) else { return false }
        do {
            try files.forceSync(folder)
            return true
        } catch {
            guard error.kind == .missing else { throw counted(error) }
            return false
        }
    }

    private func gone(_ fault: FileFault) -> StoreError {
        StoreError(.gone, files.root, "the store's folder is not there; is the volume mounted?", fault: fault)
    }

    func requirePrivate(_ status: FileStatus, _ path: String, mend mode: String) throws(StoreError) {
        guard status.isOpenToOthers else { return }
        count(\.refused)
        let octal = String(status.mode, radix: 8)
        throw StoreError(
            .refused,
            shown(path),
            "is open to other users (mode \(octal)); mend it with: chmod \(mode) \(shown(path))"
        )
    }
}

// MARK: Calls

extension Volume {
    /// Makes calls of the file system; what they say is counted and put into the store's words.
    func call<Result>(_ body: () throws(FileFault) -> Result) throws(StoreError) -> Result {
        do {
            return try body()
        } catch {
            throw counted(error)
        }
    }

    /// Asks the server about a folder that every store has; without it the store is not there.
    func askServer(_ folder: String) throws(StoreError) {
        do {
            try files.forceSync(folder)
        } catch {
            guard error.kind == .missing else { throw counted(error) }
            throw gone(error)
        }
    }

    func counted(_ fault: FileFault) -> StoreError {
        let error = StoreError(fault)
        switch error.code {
        case .transient: count(\.transient)
        case .refused: count(\.refused)
        case .tooLarge: count(\.tooLarge)
        default: break
        }
        return error
    }

    /// A thing that could not be decoded.
    func corrupt(_ path: String, _ reason: String) -> StoreError {
        count(\.corrupt)
        return StoreError(.corrupt, shown(path), reason)
    }

    static func folder(of path: String) -> String {
        path.utf8.lastIndex(of: UInt8(ascii: "/")).map { String(path[..<$0]) } ?? ""
    }

    /// 128 random bits as a file name.
    func nonce() -> String {
        Hex.string(random()) + Hex.string(random())
    }
}
