import Glibc
package import Store

/// Where a backup is written to and read from: a file, or "-" for standard output and input. It holds the cluster's
/// secrets, so a file gets mode 0600 before the first byte.
package enum BackupFile {
    /// Writes a new file beside the target and renames it: whoever looks sees the old backup or the whole new one.
    package static func write(_ bytes: [UInt8], to path: String) throws(StoreError) {
        guard path != "-" else {
            guard isatty(STDOUT_FILENO) == 0 else {
                throw StoreError(.denied, "-", "standard output is a terminal; redirect it, or name a file")
            }
            return try write(bytes, STDOUT_FILENO, "standard output")
        }
        let (folder, name) = split(path)
        let temporary = "\(folder)/.\(name).\(UInt64.random(in: 0 ... .max)).tmp"
        let number = open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0o600)
        guard number >= 0 else { throw last("open", path) }
        var isDone = false
        defer { if !isDone { unlink(temporary) } }
        do {
            defer { close(number) }
            // The umask takes bits away only; an inherited access list may add some.
            guard fchmod(number, 0o600) == 0 else { throw last("chmod", path) }
            try write(bytes, number, path)
            guard fsync(number) == 0 else { throw last("fsync", path) }
        }
        guard rename(temporary, path) == 0 else { throw last("rename", path) }
        isDone = true
        let parent = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
        guard parent >= 0 else { throw last("open", folder) }
        defer { close(parent) }
        guard fsync(parent) == 0 else { throw last("fsync", folder) }
    }

    package static func read(_ path: String) throws(StoreError) -> [UInt8] {
        if path == "-" { return try read(STDIN_FILENO, "standard input") }
        let number = open(path, O_RDONLY | O_CLOEXEC)
        guard number >= 0 else { throw last("open", path) }
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
                throw last("read", path)
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
                throw last("write", path)
            }
            rest = rest.dropFirst(count)
        }
    }

    private static func split(_ path: String) -> (folder: String, name: String) {
        guard let slash = path.lastIndex(of: "/") else { return (".", path) }
        let folder = String(path[..<slash])
        return (folder.isEmpty ? "/" : folder, String(path[path.index(after: slash)...]))
    }

    private static func last(_ call: String, _ path: String) -> StoreError {
        StoreError(.denied, path, "\(call): \(String(cString: strerror(errno)))")
    }
}
