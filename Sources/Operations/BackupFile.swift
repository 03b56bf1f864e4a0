import Files
import Glibc
import NIOCore
package import Store

/// Writing and reading of a backup: a file, or "-" for standard output and standard input.
package enum BackupFile {
    /// Writes a backup, reads it back and verifies it as a restore would, and only then puts it in place: it replaces a
    /// file in one step, or goes to standard output. A backup holds the cluster's secrets, so its mode is 0600.
    ///
    /// - Parameters:
    ///   - mounted: The keys of a mounted secret, or `nil`.
    ///   - write: Writes the archive.
    /// - Returns: The backup as it was read back, and the result of `write`.
    package static func write(
        to path: String,
        mounted: [ClusterKey]?,
        _ write: (ArchiveFile) async throws(StoreError) -> BackupSummary
    ) async throws(StoreError) -> (backup: Backup, summary: BackupSummary) {
        if path == "-" {
            guard isatty(STDOUT_FILENO) == 0 else {
                throw StoreError(.wrongFile, "-", "standard output is a terminal; redirect it, or name a file")
            }
            let archive = ArchiveFile(inMemory: "standard output")
            let result = try await fill(archive, mounted, write)
            let output = ArchiveFile(adopting: try duplicate(STDOUT_FILENO, "standard output"), place: archive.place)
            try archive.copy(to: output)
            return result
        }
        let file: AtomicFile
        do { file = try AtomicFile(at: path) } catch { throw StoreError(error) }
        let archive = ArchiveFile(adopting: try duplicate(file.number, path), place: path)
        let result = try await fill(archive, mounted, write)
        do { try file.commit() } catch { throw StoreError(error) }
        return result
    }

    /// Opens and verifies a backup, on a thread of its own, because its volume may hang.
    package static func load(_ path: String, mounted: [ClusterKey]?) async throws(StoreError) -> Backup {
        // A pipe is read to its end, which its writer decides.
        let archive = try await onThread("backup", deadline: path == "-" ? limit : openLimit, place: path) {
            () throws(StoreError) in try open(path)
        }
        return try await verify(archive, mounted)
    }

    /// The longest time to open a file.
    private static let openLimit = TimeAmount.seconds(10)
    /// The longest time to read a backup.
    private static let limit = TimeAmount.minutes(30)

    private static func verify(_ archive: ArchiveFile, _ mounted: [ClusterKey]?) async throws(StoreError) -> Backup {
        try await onThread("backup", deadline: limit, place: archive.place) {
            () throws(StoreError) in try Backup(archive, mounted: mounted)
        }
    }

    /// Opens a backup. One that comes through a pipe is read into memory.
    package static func open(_ path: String) throws(StoreError) -> ArchiveFile {
        let isInput = path == "-"
        let place = isInput ? "standard input" : path
        let number = isInput ? try duplicate(STDIN_FILENO, place) : Glibc.open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC)
        let remedy = "name the file that hopgate backup wrote, or - for a pipe"
        guard number >= 0 else {
            guard errno == ENOENT else { throw ArchiveFile.failure("open", place) }
            throw StoreError(.wrongFile, place, "there is no such file; \(remedy)")
        }
        let file = ArchiveFile(adopting: number, place: place)
        var status = stat()
        guard fstat(number, &status) == 0 else { throw ArchiveFile.failure("fstat", place) }
        let kind = status.st_mode & S_IFMT
        if kind == S_IFREG { return file }
        guard isInput, kind == S_IFIFO || kind == S_IFSOCK else {
            throw StoreError(.wrongFile, place, "is \(FileError.kind(kind)); \(remedy)")
        }
        return try withExtendedLifetime(file) { () throws(StoreError) in try readAll(number, place) }
    }

    private static func readAll(_ number: Int32, _ place: String) throws(StoreError) -> ArchiveFile {
        let archive = ArchiveFile(inMemory: place)
        let limit = ArchiveLimits.memory
        var chunk = [UInt8](repeating: 0, count: 1 << 20)
        var total = 0
        while true {
            let count = read(number, &chunk, chunk.count)
            if count == 0 { return archive }
            if count < 0 {
                if errno == EINTR { continue }
                throw ArchiveFile.failure("read", place)
            }
            total += count
            guard total <= limit else {
                throw StoreError(
                    .tooLarge,
                    place,
                    "is larger than the \(limit >> 20) MiB of a backup in a pipe; name a file"
                )
            }
            try archive.append(chunk[..<count])
        }
    }

    private static func fill(
        _ archive: ArchiveFile,
        _ mounted: [ClusterKey]?,
        _ write: (ArchiveFile) async throws(StoreError) -> BackupSummary
    ) async throws(StoreError) -> (backup: Backup, summary: BackupSummary) {
        let summary = try await write(archive)
        let backup: Backup
        do {
            backup = try await verify(archive, mounted)
        } catch {
            throw StoreError(
                error.code,
                error.place,
                "\(error.reason); the backup cannot be read back, so it was not kept"
            )
        }
        return (backup, summary)
    }

    private static func duplicate(_ number: Int32, _ place: String) throws(StoreError) -> Int32 {
        let copy = fcntl(number, F_DUPFD_CLOEXEC, 0)
        guard copy >= 0 else { throw ArchiveFile.failure("open", place) }
        return copy
    }
}

extension StoreError {
    fileprivate init(_ error: FileError) {
        self.init(error.isOfArgument ? .wrongFile : .denied, error.path, error.reason)
    }
}
