import Files
import Glibc
package import Store

/// Writing and reading of a backup: a file, or "-" for standard output and standard input.
package enum BackupFile {
    /// Replaces the file in one step. A backup holds the cluster's secrets, so its mode is 0600.
    package static func write(_ bytes: [UInt8], to path: String) throws(StoreError) {
        guard path != "-" else {
            guard isatty(STDOUT_FILENO) == 0 else {
                throw StoreError(.denied, "-", "standard output is a terminal; redirect it, or name a file")
            }
            return try write(bytes, STDOUT_FILENO, "standard output")
        }
        do {
            try AtomicFile.write(bytes, to: path)
        } catch {
            throw StoreError(.denied, error.path, error.reason)
        }
    }

    /// Reads a whole backup of at most ``Backup/sizeLimit`` bytes.
    package static func read(_ path: String) throws(StoreError) -> [UInt8] {
        if path == "-" { return try read(STDIN_FILENO, "standard input") }
        let number = open(path, O_RDONLY | O_CLOEXEC)
        guard number >= 0 else { throw error("open", path) }
        defer { close(number) }
        return try read(number, path)
    }

    private static func read(_ number: Int32, _ path: String) throws(StoreError) -> [UInt8] {
        var bytes: [UInt8] = []
        var chunk = [UInt8](repeating: 0, count: 1 << 20)
        while true {
            let count = Glibc.read(number, &chunk, chunk.count)
            if count == 0 { return bytes }
            if count < 0 {
                if errno == EINTR { continue }
                throw error("read", path)
            }
            guard bytes.count + count <= Backup.sizeLimit else {
                throw StoreError(.tooLarge, path, "is larger than the \(Backup.sizeLimit >> 20) MiB of a backup")
            }
            bytes += chunk[..<count]
        }
    }

    private static func write(_ bytes: [UInt8], _ number: Int32, _ path: String) throws(StoreError) {
        var rest = bytes[...]
        while !rest.isEmpty {
            let count = rest.withUnsafeBytes { Glibc.write(number, $0.baseAddress, $0.count) }
            if count < 0 {
                if errno == EINTR { continue }
                throw error("write", path)
            }
            rest = rest.dropFirst(count)
        }
    }

    private static func error(_ call: String, _ path: String) -> StoreError {
        StoreError(.denied, path, "\(call): \(String(cString: strerror(errno)))")
    }
}
