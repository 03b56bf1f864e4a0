import Formats
package import NIOCore
import Synchronization

/// A folder on a volume that several machines write, and the rules by which they do so: the blocking core of the store.
///
/// - Each file has one writer, except shared keys, which are folders of numbered versions created by link(2).
/// - Publication is temporary file → fsync → rename or link → fsync of the folder. A reader sees all or nothing.
/// - Where an outdated answer would matter, the server is asked first (``FileSystem/forceSync(_:)``): a network file
///   system caches listings, and a reply may be lost although the call succeeded.
/// - No wall clock and no modification time is read; durations are those of the monotonic clock given as `now`.
///
/// Every call blocks, possibly for ever. The threads of a ``VolumeStore`` make the calls, and so do commands and tests.
/// The class itself is thread-safe: it holds counters and ``versionObservations`` under locks, everything else is on
/// the volume. Extensions group the calls: values, hints, replicas, keys, check.
package final class Volume: Sendable {
    package let files: any FileSystem
    /// The monotonic clock of this process.
    package let now: @Sendable () -> NIODeadline
    let random: @Sendable () -> UInt64
    private let counters = Mutex(StoreCounts())
    /// Verifies that the volume at the path still is the one that was opened, if that was asked for.
    let verification = Mutex<(any VolumeVerification)?>(nil)
    /// The newest version of each key at some time; see ``superseded(_:_:)``.
    let versionObservations = Mutex([String: VersionObservation]())
    /// The last failure of a hint, or of the folder of the hints of a prefix, that will not pass by itself.
    let refusedHint = Mutex<StoreError?>(nil)

    /// - Parameters:
    ///   - files: The file system whose root is `STORE/v2`.
    ///   - now: The monotonic clock of this process.
    ///   - random: Returns 64 random bits per call, for names and nonces.
    package init(
        files: any FileSystem,
        now: @escaping @Sendable () -> NIODeadline = { NIODeadline.now() },
        random: @escaping @Sendable () -> UInt64 = { UInt64.random(in: .min ... .max) }
    ) {
        self.files = files
        self.now = now
        self.random = random
    }

    /// The counters since the process started.
    package var counts: StoreCounts { counters.withLock { $0 } }

    func count(_ counter: any WritableKeyPath<StoreCounts, UInt64> & Sendable) {
        counters.withLock { $0[keyPath: counter] &+= 1 }
    }

    /// Throws `gone` if another volume stands at the path now. Called before anything is created or deleted, and
    /// after anything is read that removes or replaces what is known.
    func requireOwnVolume() throws(StoreError) {
        if let verification = verification.withLock({ $0 }) { try verification.verify(self) }
    }

    /// Returns the absolute path, for messages.
    func displayPath(_ path: String) -> String { path.isEmpty ? files.root : "\(files.root)/\(path)" }
}

/// A check of the volume that stands at the path now.
protocol VolumeVerification: Sendable {
    /// - Throws: `gone` if it is another one than the one that was opened.
    func verify(_ volume: Volume) throws(StoreError)
}

/// Counters of refused files, failures and changes since the process started.
package struct StoreCounts: Equatable, Sendable {
    /// Files and folders that are open to other users, symbolic links, pipes.
    package var refused: UInt64 = 0
    /// Files and folders larger than their limit.
    package var tooLarge: UInt64 = 0
    /// Names in the store's folders that the store does not create.
    package var badNames: UInt64 = 0
    /// Wrong checksums, formats and MACs.
    package var corrupt: UInt64 = 0
    /// EIO, ESTALE and similar errors.
    package var transient: UInt64 = 0
    /// Calls that reported EEXIST or ENOENT although they had succeeded, because the server executed them twice.
    package var repeatedReplies: UInt64 = 0
    /// Changes that lost a race.
    package var conflicts: UInt64 = 0
    /// Versions that this process published.
    package var published: UInt64 = 0

    package init() {}
}

// MARK: Reading

extension Volume {
    /// The highest number of names in a folder.
    static let nameLimit = 200_000

    /// Returns all bytes of a regular file that no other user may read or write.
    func readFile(_ path: String, limit: Int) throws(StoreError) -> [UInt8] {
        do throws(StoreError) {
            let file: any OpenFile = try call { () throws(FileFault) in try files.open(path, .read) }
            return try contents(of: file, path, limit: limit).bytes
        } catch {
            guard error.fault?.kind == .stale else { throw error }
        }
        // A cached name of a file that has been replaced: resolve the name again, once.
        try call { () throws(FileFault) in try files.forceSync(Self.folder(of: path)) }
        let file: any OpenFile = try call { () throws(FileFault) in try files.open(path, .read) }
        return try contents(of: file, path, limit: limit).bytes
    }

    /// Reads an open file to its end.
    ///
    /// - Parameter path: The path for messages; evaluated only for an error.
    func contents(
        of file: any OpenFile,
        _ path: @autoclosure () -> String,
        limit: Int
    ) throws(StoreError) -> (bytes: [UInt8], status: FileStatus) {
        let status = file.status
        if status.isOpenToOthers { try requirePrivate(status, path(), mode: "600") }
        guard status.size <= UInt64(limit) else { throw tooLarge(path(), limit) }
        // One byte more than the size: a read of exactly `expected` bytes then proves the end of the file.
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
        let reason = "is larger than the \(limit) bytes that such a file may have"
        return StoreNumber.exhaustion(of: displayPath(path)) ?? StoreError(.tooLarge, displayPath(path), reason)
    }

    /// Returns the names in a folder of the store. Dot files are left out; names that the store does not create are
    /// counted and left out.
    ///
    /// - Parameter fresh: Whether to ask the server first, for results that matter.
    func names(in folder: String, fresh: Bool, limit: Int = nameLimit) throws(StoreError) -> [String] {
        let listing = try call { () throws(FileFault) in try files.list(folder, fresh: fresh, limit: limit) }
        return try names(of: listing, in: folder)
    }

    func names(of listing: FolderListing, in folder: String) throws(StoreError) -> [String] {
        try requirePrivate(listing.status, folder, mode: "700")
        return listing.names.filter { name in
            if StoreKey.isComponent(name) { return true }
            if !name.hasPrefix(".") { count(\.badNames) }
            return false
        }
    }

    /// Returns the names in a folder, bypassing every cache, or `nil` if the folder does not exist: the server has to
    /// say so twice while it has the parent folder, which is asked for only then.
    ///
    /// - Throws: `gone` if the store itself is missing, because an empty mount point looks like an empty store.
    func namesIfPresent(in folder: String) throws(StoreError) -> [String]? {
        do {
            return try names(in: folder, fresh: true)
        } catch {
            guard error.code == .notFound || error.fault?.kind == .stale else { throw error }
        }
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

    /// Asks the server about a folder, so that its absence is no older than this call. Returns whether it exists.
    private func isPresent(_ folder: String) throws(StoreError) -> Bool {
        guard let fault = try absence(of: folder) else { return true }
        guard !folder.isEmpty else { throw gone(fault) }
        guard try isPresent(Self.folder(of: folder)) else { return false }
        return try absence(of: folder) == nil
    }

    /// Asks the server about a folder. Returns the fault if it is missing.
    private func absence(of folder: String) throws(StoreError) -> FileFault? {
        do {
            try files.forceSync(folder)
            return nil
        } catch {
            guard error.kind == .missing else { throw storeError(for: error) }
            return error
        }
    }

    /// The failure of a folder of values that founding has created and that is never deleted.
    func disappeared(_ folder: String) -> StoreError {
        StoreError(
            .gone,
            displayPath(folder),
            "has disappeared; move it back, or restore a backup into an empty folder"
        )
    }

    private func gone(_ fault: FileFault) -> StoreError {
        StoreError(.gone, files.root, "the store's folder is not there; is the volume mounted?", fault: fault)
    }

    /// Throws `refused` if a file or folder is open to other users, and `tooLarge` for a file with the greatest
    /// number: with another mode it would be read, but nothing could be written.
    func requirePrivate(_ status: FileStatus, _ path: String, mode: String) throws(StoreError) {
        guard status.isOpenToOthers else { return }
        count(\.refused)
        if mode == "600", let exhaustion = StoreNumber.exhaustion(of: displayPath(path)) { throw exhaustion }
        let octal = String(status.mode, radix: 8)
        throw StoreError(
            .refused,
            displayPath(path),
            "is open to other users (mode \(octal)); fix it with: chmod \(mode) \(shellWord(displayPath(path)))"
        )
    }
}

// MARK: Calls

extension Volume {
    /// Performs file-system calls, counts their faults and converts them to a ``StoreError``.
    func call<Result>(_ body: () throws(FileFault) -> Result) throws(StoreError) -> Result {
        do {
            return try body()
        } catch {
            throw storeError(for: error)
        }
    }

    /// Asks the server about a folder that every store has. If it is missing, the store is not mounted (`gone`).
    func revalidate(_ folder: String) throws(StoreError) {
        if let fault = try absence(of: folder) { throw gone(fault) }
    }

    /// Counts a fault and converts it.
    func storeError(for fault: FileFault) -> StoreError {
        let fault = located(fault)
        let isForeign = fault.kind == .wrongKind || fault.kind == .symbolicLink
        let error = (isForeign ? StoreNumber.exhaustion(of: fault.path) : nil) ?? StoreError(fault)
        switch error.code {
        case .transient: count(\.transient)
        case .refused: count(\.refused)
        case .tooLarge: count(\.tooLarge)
        default: break
        }
        return error
    }

    /// Returns the fault with the path of the file or link that is in the place of a folder above its path, if there is
    /// one: that is what has to be moved away.
    private func located(_ fault: FileFault) -> FileFault {
        guard [.wrongKind, .symbolicLink].contains(fault.kind), fault.path.hasPrefix("\(files.root)/") else {
            return fault
        }
        let path = fault.path.dropFirst(files.root.count + 1)
        for slash in path.indices where path[slash] == "/" {
            let folder = String(path[..<slash])
            guard let kind = try? files.status(folder).kind else { break }
            if kind != .folder { return FileFault(fault.call, displayPath(folder), fault.number) }
        }
        return fault
    }

    /// Counts and describes a file that could not be decoded.
    func corrupt(_ path: String, _ reason: String) -> StoreError {
        count(\.corrupt)
        return StoreError(.corrupt, displayPath(path), reason)
    }

    /// The parent folder of a path.
    static func folder(of path: String) -> String {
        path.utf8.lastIndex(of: UInt8(ascii: "/")).map { String(path[..<$0]) } ?? ""
    }

    /// Returns 128 random bits as a file name.
    func nonce() -> String {
        Hex.string(random()) + Hex.string(random())
    }
}
