import Glibc

/// The error of reading a small file.
struct FileReadError: Error {
    /// The reason, without the path.
    var reason: String
}

/// Reads a whole file of at most `limit` bytes. Follows symbolic links, since Kubernetes mounts each file of a Secret
/// as one.
///
/// - Parameter onlyRegular: Whether pipes and devices are refused, without waiting for a writer.
func fileContents(_ path: String, limit: Int, onlyRegular: Bool = false) throws(FileReadError) -> [UInt8] {
    guard !path.isEmpty, !path.utf8.contains(0) else { throw FileReadError(reason: "not a path") }
    let descriptor = open(path, O_RDONLY | O_CLOEXEC | (onlyRegular ? O_NONBLOCK : 0))
    guard descriptor >= 0 else { throw FileReadError(reason: lastErrorText()) }
    defer { close(descriptor) }
    if onlyRegular {
        var status = stat()
        guard fstat(descriptor, &status) == 0 else { throw FileReadError(reason: lastErrorText()) }
        guard status.st_mode & S_IFMT == S_IFREG else { throw FileReadError(reason: "it is not a regular file") }
    }
    var bytes: [UInt8] = []
    while bytes.count <= limit {
        // The size from fstat is not used: a pipe has none, and a file may grow meanwhile.
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

/// The reason for which this process cannot read a file, or `nil` if it can.
package func reasonNotReadable(_ path: String) -> String? {
    guard !path.isEmpty, !path.utf8.contains(0) else { return "not a path" }
    let descriptor = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK)
    guard descriptor >= 0 else { return lastErrorText() }
    defer { close(descriptor) }
    var status = stat()
    guard fstat(descriptor, &status) == 0 else { return lastErrorText() }
    return status.st_mode & S_IFMT == S_IFDIR ? String(cString: strerror(EISDIR)) : nil
}

/// Whether a path leads to a regular file, which can be read again, unlike a pipe.
package func isRegularFile(_ path: String) -> Bool {
    var status = stat()
    return stat(path, &status) == 0 && status.st_mode & S_IFMT == S_IFREG
}

/// The reason for which this process cannot run a file, or `nil` if it can.
func reasonNotExecutable(_ path: String) -> String? {
    guard !path.isEmpty, !path.utf8.contains(0) else { return "not a path" }
    var status = stat()
    guard stat(path, &status) == 0 else { return lastErrorText() }
    guard status.st_mode & S_IFMT == S_IFREG else { return "it is not a file" }
    return access(path, X_OK) == 0 ? nil : lastErrorText()
}

private func lastErrorText() -> String { String(cString: strerror(errno)) }
