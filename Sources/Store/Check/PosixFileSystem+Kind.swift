internal import Glibc

extension PosixFileSystem {
    /// What stands at a path outside the store; nil, and errno says why, if it cannot be found out.
    package static func kind(of path: String, followingLinks: Bool) -> FileStatus.Kind? {
        var status = Glibc.stat()
        guard (followingLinks ? stat(path, &status) : lstat(path, &status)) == 0 else { return nil }
        return switch status.st_mode & S_IFMT {
        case S_IFREG: .file
        case S_IFDIR: .folder
        case S_IFLNK: .symbolicLink
        default: .other
        }
    }
}
