import Glibc

/// An error of reading or writing a file that an operator named: the path and the reason.
package struct FileError: Error, Equatable, CustomStringConvertible {
    package enum Code: Equatable, Sendable {
        /// No file exists at the path.
        case notFound
        /// A folder, pipe, socket or device exists where a plain file is required.
        case wrongKind
        /// The file is larger than the limit for files of its kind.
        case tooLarge
        /// A system call failed with this `errno`.
        case system(Int32)
    }

    package let code: Code
    package let path: String
    package let reason: String

    package var description: String { "\(path): \(reason)" }

    /// Whether another path has to be named. Otherwise the system failed.
    package var isOfArgument: Bool {
        switch code {
        case .notFound, .wrongKind, .tooLarge: true
        case .system: false
        }
    }

    package init(_ code: Code, _ path: String, _ reason: String) {
        self.code = code
        self.path = path
        self.reason = reason
    }

    /// Creates an error from the `errno` of a system call that has just failed on this thread.
    package static func last(_ call: String, _ path: String) -> FileError {
        let number = errno
        if number == ENOENT { return FileError(.notFound, path, "there is no such file or folder") }
        let remedy = number == ENOSPC || number == EDQUOT ? "; free some space, or name a file on another volume" : ""
        return FileError(.system(number), path, "\(call): \(String(cString: strerror(number)))\(remedy)")
    }

    /// The kind of a file that is not a regular one, from its mode, as a noun.
    package static func kind(_ mode: UInt32) -> String {
        switch mode & S_IFMT {
        case S_IFDIR: "a folder"
        case S_IFIFO: "a FIFO"
        case S_IFSOCK: "a socket"
        case S_IFCHR, S_IFBLK: "a device"
        default: "not a regular file"
        }
    }
}
