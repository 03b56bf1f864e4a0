import Glibc
import Synchronization

/// The bytes of an archive, written once from their start and read at any offset: an open file, or memory if the
/// archive comes from or goes to a pipe.
///
/// Calls block, and may be made on any thread.
package final class ArchiveFile: Sendable {
    /// The name of the archive, for messages.
    package let place: String
    /// The open file, or `nil` if the bytes are in memory.
    private let number: Int32?
    private let memory = Mutex<[UInt8]>([])

    /// Creates an archive from an open descriptor, which is closed with it.
    package init(adopting number: Int32, place: String) {
        precondition(number >= 0, "a descriptor comes from a call that succeeded")
        self.number = number
        self.place = place
    }

    /// Creates an empty archive in memory.
    package init(inMemory place: String) {
        number = nil
        self.place = place
    }

    var isInMemory: Bool { number == nil }
    var limits: ArchiveLimits { ArchiveLimits(isInMemory: isInMemory) }

    deinit { if let number { close(number) } }

    package func size() throws(StoreError) -> Int {
        guard let number else { return memory.withLock { $0.count } }
        var status = stat()
        guard fstat(number, &status) == 0 else { throw Self.failure("fstat", place) }
        return Int(status.st_size)
    }

    /// Removes everything that was written.
    func clear() throws(StoreError) {
        guard let number else { return memory.withLock { $0 = [] } }
        guard ftruncate(number, 0) == 0, lseek(number, 0, SEEK_SET) == 0 else {
            throw Self.failure("ftruncate", place)
        }
    }

    /// Appends bytes at the current offset.
    package func append(_ bytes: some Collection<UInt8>) throws(StoreError) {
        guard let number else { return memory.withLock { $0 += bytes } }
        var rest = Array(bytes)[...]
        while !rest.isEmpty {
            let count = rest.withUnsafeBytes { write(number, $0.baseAddress, $0.count) }
            if count < 0 {
                if errno == EINTR { continue }
                throw Self.failure("write", place)
            }
            rest = rest.dropFirst(count)
        }
    }

    /// Reads the bytes of a range, or fewer if the archive ends before.
    package func read(_ range: Range<Int>) throws(StoreError) -> [UInt8] {
        guard let number else { return memory.withLock { Array($0[range.clamped(to: $0.indices)]) } }
        var bytes = [UInt8](repeating: 0, count: range.count)
        var filled = 0
        while filled < bytes.count {
            let count = bytes[filled...].withUnsafeMutableBytes {
                pread(number, $0.baseAddress, $0.count, off_t(range.lowerBound + filled))
            }
            if count == 0 { break }
            if count < 0 {
                if errno == EINTR { continue }
                throw Self.failure("read", place)
            }
            filled += count
        }
        return filled == bytes.count ? bytes : Array(bytes[..<filled])
    }

    /// Appends everything that this archive holds to another one.
    package func copy(to other: ArchiveFile) throws(StoreError) {
        let size = try size()
        for start in stride(from: 0, to: size, by: TarArchive.chunk) {
            try other.append(try read(start..<min(size, start + TarArchive.chunk)))
        }
    }

    /// An error from the `errno` of a call that has just failed on this thread.
    package static func failure(_ call: String, _ place: String) -> StoreError {
        let isFull = errno == ENOSPC || errno == EDQUOT
        let reason = "\(call): \(String(cString: strerror(errno)))"
        guard isFull else { return StoreError(.denied, place, reason) }
        return StoreError(.full, place, "\(reason); free some space, or name a file on another volume")
    }
}
