import Files
import Glibc
import HopProtocol
package import Settings

/// A file with a join string, for an agent that runs on the same machine or has the same volume. It is replaced in one
/// step and has mode 0600.
package struct JoinFile: Sendable {
    package let path: String

    package init(path: String) {
        self.path = path
    }

    /// Reads the file.
    ///
    /// - Returns: The contents, or `nil` if there is no file.
    /// - Throws: An error if something else than a plain file exists at the path, or if it cannot be read.
    package func read() throws(CredentialError) -> String? {
        guard try exists() else { return nil }
        do throws(FileError) {
            return String(decoding: try ConfiguredFile.read(path, limit: JoinString.sizeLimit), as: UTF8.self)
        } catch {
            throw error.code == .tooLarge ? noJoinString(error.reason) : unusable(error)
        }
    }

    /// Verifies that replacing the file destroys nothing but a join string.
    ///
    /// - Throws: An error if the file is not empty and holds no join string, or if it cannot be read.
    package func requireReplaceable() throws(CredentialError) { _ = try joinString() }

    /// Reads the join string in the file.
    ///
    /// - Returns: `nil` if there is no file, or an empty one.
    /// - Throws: An error if the file holds anything else, or if it cannot be read.
    func joinString() throws(CredentialError) -> JoinString? {
        guard let text = try read(), !text.allSatisfy(\.isWhitespace) else { return nil }
        do throws(JoinStringError) {
            return try JoinString(text)
        } catch {
            throw noJoinString(error.what)
        }
    }

    /// The addresses in the file. Empty if it has no join string.
    package var gateways: [HostPort] {
        get throws(CredentialError) {
            guard let text = try read(), let join = try? JoinString(text) else { return [] }
            return join.gateways.compactMap { try? HostPort.parse($0, defaultPort: nil) }
        }
    }

    /// Verifies that the file can be written, without changing it.
    ///
    /// - Parameter text: A text of the same length as the one to write.
    func requireWritable(_ text: String) throws(CredentialError) {
        do throws(FileError) {
            try AtomicFile.requireWritable(Self.contents(text), to: path)
        } catch {
            throw unusable(error)
        }
    }

    /// Creates or replaces the file.
    package func write(_ text: String) throws(CredentialError) {
        _ = try exists()
        do throws(FileError) {
            try AtomicFile.write(Self.contents(text), to: path)
        } catch {
            throw unusable(error)
        }
    }

    /// Gives a file that other users may read the mode of a new one. A file that only its group may read stays as it
    /// is.
    ///
    /// - Returns: A remark for the operator, or `nil` if there was nothing to change.
    package func restrict() -> String? {
        guard (try? exists()) == true, let mode = ConfiguredFile.modeIfOthersMayRead(path) else { return nil }
        let number = open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC)
        guard number >= 0 else { return nil }
        defer { close(number) }
        guard fchmod(number, 0o600) == 0 else {
            let reason = String(cString: strerror(errno))
            return "Warning: other users may read \(path) (mode \(mode)); chmod: \(reason)."
        }
        return "\(path) has mode 0600 now: other users could read it (mode \(mode))."
    }

    private static func contents(_ text: String) -> [UInt8] { Array((text + "\n").utf8) }

    /// Whether the file exists.
    ///
    /// - Throws: An error if the path cannot be that of a join file.
    package func exists() throws(CredentialError) -> Bool {
        var status = stat()
        guard lstat(path, &status) == 0 else {
            guard errno == ENOENT else { throw failure("stat") }
            if let problem = problemOfFolder {
                let reason = "\(path): \(problem); create the folder first"
                throw CredentialError(.joinFile, reason, isOfArgument: true)
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

    private var problemOfFolder: String? {
        var status = stat()
        let folder = splitPath(path).folder
        guard stat(folder, &status) == 0 else { return "\(folder): \(String(cString: strerror(errno)))" }
        return status.st_mode & S_IFMT == S_IFDIR ? nil : "\(folder) is not a folder"
    }

    private func noJoinString(_ problem: String) -> CredentialError {
        let remedy = "name another file, or delete this one first"
        return CredentialError(.joinFile, "\(path): is not empty and holds no join string (it \(problem)); \(remedy)")
    }

    private func wrongKind(_ problem: String) -> CredentialError {
        let reason = "\(path): \(problem); name a plain file, or a path where no file exists"
        return CredentialError(.joinFile, reason, isOfArgument: true)
    }

    private func unusable(_ error: FileError) -> CredentialError {
        CredentialError(.joinFile, error.description, isOfArgument: error.isOfArgument)
    }

    private func failure(_ call: String) -> CredentialError {
        CredentialError(.joinFile, "\(path): \(call): \(String(cString: strerror(errno)))")
    }
}
