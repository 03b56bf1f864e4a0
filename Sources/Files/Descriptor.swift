import Glibc

/// An open file descriptor, closed when it goes out of scope.
struct Descriptor: ~Copyable {
    let number: Int32

    init(_ number: Int32) {
        precondition(number >= 0, "a descriptor comes from a call that succeeded")
        self.number = number
    }

    deinit { close(number) }

    func status(_ path: String) throws(FileError) -> stat {
        var status = stat()
        guard fstat(number, &status) == 0 else { throw .last("fstat", path) }
        return status
    }

    /// Reads a plain file from the current offset to its end.
    ///
    /// - Throws: `tooLarge` if the file has more than `limit` bytes, `wrongKind` if it is not a plain file.
    func readAll(_ path: String, limit: Int) throws(FileError) -> [UInt8] {
        let status = try status(path)
        guard status.st_mode & S_IFMT == S_IFREG else {
            throw FileError(.wrongKind, path, "is \(FileError.kind(status.st_mode)); a regular file is required")
        }
        let tooLarge = FileError(.tooLarge, path, "is larger than the \(limit) bytes that such a file may have")
        guard status.st_size <= limit else { throw tooLarge }
        var bytes = [UInt8]()
        bytes.reserveCapacity(Int(status.st_size) + 1)
        var chunk = [UInt8](repeating: 0, count: 16_384)
        while true {
            let count = chunk.withUnsafeMutableBytes { read(number, $0.baseAddress, $0.count) }
            if count == 0 { return bytes }
            if count < 0 {
                if errno == EINTR { continue }
                throw .last("read", path)
            }
            // The file may have grown since `fstat`.
            guard bytes.count + count <= limit else { throw tooLarge }
            bytes += chunk[..<count]
        }
    }

    /// Writes all bytes at the current offset.
    func writeAll(_ bytes: [UInt8], _ path: String) throws(FileError) {
        var rest = bytes[...]
        while !rest.isEmpty {
            let count = rest.withUnsafeBytes { write(number, $0.baseAddress, $0.count) }
            if count < 0 {
                if errno == EINTR { continue }
                throw .last("write", path)
            }
            rest = rest.dropFirst(count)
        }
    }

    /// Flushes the contents of the file, or the entries of the folder, to the disk.
    func synchronize(_ path: String) throws(FileError) {
        guard fsync(number) == 0 else { throw .last("fsync", path) }
    }
}
