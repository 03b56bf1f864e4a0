import Glibc

/// A failed file-system call: the call, the path, and the error number of the system.
///
/// The layers above decide what the fault means for the store, by ``kind`` and never by the number.
package struct FileFault: Error, Equatable, Sendable, CustomStringConvertible {
    /// The file-system calls, as they appear in messages.
    package enum Call: String, Sendable {
        case open, read, write, fsync, fdatasync, close
        case link, rename, unlink, mkdir, rmdir, list, stat
        case syncFolder = "fsync of the folder"
        case forceSync = "statx"
    }

    /// The categories of file-system error that the store handles differently.
    package enum Kind: Equatable, Sendable {
        /// No file or folder has this name (ENOENT).
        case missing
        /// The name is taken (EEXIST, ENOTEMPTY).
        case exists
        /// A component of the path is a symbolic link (ELOOP).
        case symbolicLink
        /// A folder where a file is expected, or the reverse.
        case wrongKind
        /// The file behind an open descriptor or a cached name no longer exists (ESTALE).
        case stale
        /// The volume does not respond as it should (EIO, time-outs, an unreachable server, a path that keeps being
        /// renamed).
        case unreachable
        /// The volume is read-only (EROFS).
        case readOnly
        /// No space or no quota is left (ENOSPC, EDQUOT).
        case full
        /// More bytes or names than the limit (EFBIG).
        case tooLarge
        /// Permission denied (EACCES, EPERM).
        case denied
        /// The volume does not support the call (for example hard links).
        case unsupported
        /// Any other error.
        case other
    }

    package let call: Call
    package let path: String
    /// The error number (errno).
    package let number: Int32

    package init(_ call: Call, _ path: String, _ number: Int32) {
        self.call = call
        self.path = path
        self.number = number
    }

    /// The category of the error.
    package var kind: Kind {
        switch number {
        case ENOENT: .missing
        case EEXIST, ENOTEMPTY: .exists
        case ELOOP: .symbolicLink
        case ENOTDIR, EISDIR, ENXIO: .wrongKind
        case ESTALE: .stale
        case EIO, ETIMEDOUT, ENOTCONN, ECONNRESET, ECONNREFUSED, EHOSTDOWN, EHOSTUNREACH, EREMOTEIO, ENODEV, EINTR,
            EAGAIN:
            .unreachable
        case EROFS: .readOnly
        case ENOSPC, EDQUOT: .full
        case EFBIG: .tooLarge
        case EACCES, EPERM: .denied
        case EOPNOTSUPP, ENOSYS, EXDEV, EMLINK, EINVAL: .unsupported
        default: .other
        }
    }

    package var description: String {
        "\(path): \(call.rawValue): \(String(cString: strerror(number)))"
    }
}
