import Glibc
import HopProtocol

/// A file that holds a join string, for an agent that starts beside it. Replaced in one step, mode 0600.
package struct JoinFile: Sendable {
    package let path: String

    package init(path: String) {
        self.path = path
    }

    /// What stands in it; nil when it is not there.
    ///
    /// - Throws: when something else than a plain file stands there, or it cannot be read.
    package func read() throws(CredentialError) -> String? {
        guard try isThere() else { return nil }
        let number = open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC)
        guard number >= 0 else { throw failure("open") }
        defer { close(number) }
        var bytes: [UInt8] = []
        var chunk = [UInt8](repeating: 0, count: 4_096)
        // Whatever is larger is no join string, and is not read further.
        while bytes.count <= JoinString.sizeLimit {
            let count = chunk.withUnsafeMutableBytes { Glibc.read(number, $0.baseAddress, $0.count) }
            if count == 0 { break }
            if count < 0 {
                if errno == EINTR { continue }
                throw failure("read")
            }
            bytes += chunk[..<count]
        }
        return String(decoding: bytes, as: UTF8.self)
    }

    /// Replaces it, or makes it: a reader sees the old or the new, whole.
    package func write(_ text: String) throws(CredentialError) {
        _ = try isThere()
        let temporary = "\(path).tmp-\(String(UInt64.random(in: .min ... .max), radix: 16))"
        let number = open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0o600)
        guard number >= 0 else { throw failure("create") }
        do throws(CredentialError) {
            defer { close(number) }
            try write(Array((text + "\n").utf8)[...], to: number)
            guard fsync(number) == 0 else { throw failure("fsync") }
        } catch {
            unlink(temporary)
            throw error
        }
        guard rename(temporary, path) == 0 else {
            let error = failure("rename")
            unlink(temporary)
            throw error
        }
        let folder = open(Self.folder(of: path), O_RDONLY | O_DIRECTORY | O_CLOEXEC)
        guard folder >= 0 else { throw failure("open the folder") }
        defer { close(folder) }
        guard fsync(folder) == 0 else { throw failure("fsync of the folder") }
    }

    private func write(_ bytes: ArraySlice<UInt8>, to number: Int32) throws(CredentialError) {
        var rest = bytes
        while !rest.isEmpty {
            let count = rest.withUnsafeBytes { Glibc.write(number, $0.baseAddress, $0.count) }
            if count < 0 {
                if errno == EINTR { continue }
                throw failure("write")
            }
            rest = rest.dropFirst(count)
        }
    }

    /// Refuses what no join file is, before anything else is done.
    package func isThere() throws(CredentialError) -> Bool {
        var status = stat()
        guard lstat(path, &status) == 0 else {
            guard errno == ENOENT else { throw failure("stat") }
            guard whyNoFolder == nil else {
                throw CredentialError(.joinFile, "\(path): \(whyNoFolder ?? ""); make the folder first")
            }
            return false
        }
        switch status.st_mode & S_IFMT {
        case S_IFREG: return true
        case S_IFLNK: throw wrongKind("is a symbolic link")
        case S_IFDIR: throw wrongKind("is a folder")
        default: throw wrongKind("is not a plain file")
        }
    }

    private var whyNoFolder: String? {
        var status = stat()
        let folder = Self.folder(of: path)
        guard stat(folder, &status) == 0 else { return "\(folder): \(String(cString: strerror(errno)))" }
        return status.st_mode & S_IFMT == S_IFDIR ? nil : "\(folder) is not a folder"
    }

    private func wrongKind(_ what: String) -> CredentialError {
        CredentialError(.joinFile, "\(path): \(what); name a plain file, or one that is not there yet")
    }

    private func failure(_ call: String) -> CredentialError {
        CredentialError(.joinFile, "\(path): \(call): \(String(cString: strerror(errno)))")
    }

    private static func folder(of path: String) -> String {
        guard let slash = path.lastIndex(of: "/") else { return "." }
        return slash == path.startIndex ? "/" : String(path[..<slash])
    }
}
