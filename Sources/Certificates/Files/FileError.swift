import Glibc

/// Why a file or a folder of ours could not be used: what happened, where, and how to mend it.
package struct FileError: Error, Equatable, CustomStringConvertible {
    package enum Code: Equatable, Sendable {
        /// Nothing stands at this path.
        case notFound
        /// A symbolic link stands where a plain file or folder of ours has to be.
        case symbolicLink
        /// A folder, pipe, socket or device stands where a plain file has to be (or the other way round).
        case wrongKind
        /// Larger than the limit of this kind of file.
        case tooLarge
        /// Users outside our own group may read or write it.
        case openToOthers
        /// The name has characters that no file of ours has.
        case badName
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
        switch number {
        case ENOENT: return FileError(.notFound, path, "there is no such file or folder")
        case ELOOP: return symbolicLink(path)
        default: return FileError(.system(number), path, "\(call): \(String(cString: strerror(number)))")
        }
    }

    static func symbolicLink(_ path: String) -> FileError {
        FileError(
            .symbolicLink,
            path,
            "is a symbolic link, which is not followed here; put the real thing in its place"
        )
    }
}
