import Glibc

/// Why a configured file could not be read: what happened, where, and how to mend it.
package struct FileError: Error, Equatable, CustomStringConvertible {
    package enum Code: Equatable, Sendable {
        /// Nothing stands at this path.
        case notFound
        /// A folder, pipe, socket or device stands where a plain file has to be.
        case wrongKind
        /// Larger than the limit of this kind of file.
        case tooLarge
        /// A system call failed with this errno.
        case system(Int32)
    }

    package let code: Code
    package let path: String
    package let reason: String

    package var description: String { "\(path): \(reason)" }

    init(_ code: Code, _ path: String, _ reason: String) {
        self.code = code
        self.path = path
        self.reason = reason
    }

    /// The error of a system call that has just failed on this thread.
    static func last(_ call: String, _ path: String) -> FileError {
        let number = errno
        if number == ENOENT { return FileError(.notFound, path, "there is no such file or folder") }
        return FileError(.system(number), path, "\(call): \(String(cString: strerror(number)))")
    }
}
