internal import Glibc

/// A small file that could not be read.
struct FileReadError: Error {
    /// What went wrong, without the path.
    var reason: String
}

/// Reads a whole file of at most `limit` bytes, following links (Kubernetes mounts every file of a Secret as one).
func fileContents(_ path: String, limit: Int) throws(FileReadError) -> [UInt8] {
    guard !path.isEmpty, !path.utf8.contains(0) else { throw FileReadError(reason: "not a path") }
    let descriptor = open(path, O_RDONLY | O_CLOEXEC)
    guard descriptor >= 0 else { throw FileReadError(reason: lastErrorText()) }
    defer { close(descriptor) }
    var bytes: [UInt8] = []
    while bytes.count <= limit {
        // Not by the size that stat tells: a pipe has none, and a file may grow meanwhile.
        let chunk = min(65_536, limit + 1 - bytes.count)
        var failure: String?
        var count = 0
        bytes += [UInt8](unsafeUninitializedCapacity: chunk) { buffer, initialized in
            repeat { count = read(descriptor, buffer.baseAddress, chunk) } while count < 0 && errno == EINTR
            if count < 0 { failure = lastErrorText() }
            initialized = max(count, 0)
        }
        if let failure { throw FileReadError(reason: failure) }
        if count == 0 { return bytes }
    }
    throw FileReadError(reason: "larger than \(limit / 1024) KiB")
}

/// Whether this process may read the file; nil if it may, else why not.
package func whyUnreadable(_ path: String) -> String? {
    guard !path.isEmpty, !path.utf8.contains(0) else { return "not a path" }
    let descriptor = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK)
    guard descriptor >= 0 else { return lastErrorText() }
    defer { close(descriptor) }
    var status = stat()
    guard fstat(descriptor, &status) == 0 else { return lastErrorText() }
    return status.st_mode & S_IFMT == S_IFDIR ? String(cString: strerror(EISDIR)) : nil
}

/// Whether this process may run the file; nil if it may, else why not.
func whyNotExecutable(_ path: String) -> String? {
    guard !path.isEmpty, !path.utf8.contains(0) else { return "not a path" }
    var status = stat()
    guard stat(path, &status) == 0 else { return lastErrorText() }
    guard status.st_mode & S_IFMT == S_IFREG else { return "it is no file" }
    return access(path, X_OK) == 0 ? nil : lastErrorText()
}

private func lastErrorText() -> String { String(cString: strerror(errno)) }
