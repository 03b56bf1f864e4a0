import Glibc

/// A call of the file system that failed: which, where, and the error number of the system.
///
/// What the fault means for the store is decided above this layer, by ``kind`` and never by the number.
package struct FileFault: Error, Equatable, Sendable, CustomStringConvertible {
    package enum Call: String, Sendable {
        case open, read, write, truncate, fsync, fdatasync, close
        case link, rename, unlink, mkdir, rmdir, list, stat
        case syncFolder = "fsync of the folder"
        case forceSync = "statx"
    }

    /// What the store tells apart.
    package enum Kind: Equatable, Sendable {
        /// Nothing has this name (ENOENT).
        case missing
        /// Something has this name already (EEXIST, ENOTEMPTY).
        case exists
        /// A symbolic link stands on the way (ELOOP).
        case symbolicLink
        /// A folder where a file has to be, or the other way round.
        case wrongKind
        /// The file behind an open descriptor or a cached name is gone (ESTALE).
        case stale
        /// The volume does not answer as it should (EIO, time-outs, a server that is away, names that never rest).
        case unreachable
        /// The volume takes no writes (EROFS).
        case readOnly
        /// No space, no quota (ENOSPC, EDQUOT).
        case full
        /// More bytes or names than such a thing may have (EFBIG).
        case tooLarge
        /// The process may not do this (EACCES, EPERM).
        case denied
        /// The volume cannot do this at all (no links, no such call).
        case unsupported
        case other
    }

    package let call: Call
    package let path: String
    /// The errno.
    package let number: Int32

    package init(_ call: Call, _ path: String, _ number: Int32) {
        self.call = call
        self.path = path
        self.number = number
    }

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

    /// May pass by itself: the last good view is kept and the call is made again later.
    package var isTransient: Bool {
        switch kind {
        case .missing, .stale, .unreachable: true
        default: false
        }
    }

    package var description: String {
        "\(path): \(call.rawValue): \(String(cString: strerror(number)))"
    }
}
