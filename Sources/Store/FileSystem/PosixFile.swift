import CStore
import Glibc

/// An open descriptor of a regular file, closed when deallocated.
final class PosixFile: OpenFile {
    private let descriptor: Int32
    /// The folder that the name is relative to, or `nil` if the name is an absolute path.
    private let folder: PosixFolder?
    private let name: String
    let status: FileStatus

    /// The absolute path, for faults.
    private var path: String { folder.map { "\($0.path)/\(name)" } ?? name }

    /// Takes ownership of a descriptor and verifies that it is a regular file: a pipe or device that was planted on the
    /// volume must not be read.
    init(plain descriptor: Int32, _ name: String, in folder: PosixFolder? = nil) throws(FileFault) {
        self.descriptor = descriptor
        self.folder = folder
        self.name = name
        var found = hop_file_status()
        let isKnown = hop_status(descriptor, 0, &found) == 0
        let failure = errno
        status = FileStatus(found)
        // From here on `deinit` closes the descriptor.
        guard isKnown else { throw FileFault(.stat, path, failure) }
        guard status.kind == .file else { throw FileFault(.open, path, EISDIR) }
    }

    deinit { close(descriptor) }

    func read(at offset: UInt64, count: Int) throws(FileFault) -> [UInt8] {
        guard let position = off_t(exactly: offset) else { throw FileFault(.read, path, EFBIG) }
        var failure: Int32 = 0
        let bytes = [UInt8](unsafeUninitializedCapacity: count) { buffer, filled in
            var got = pread(descriptor, buffer.baseAddress, count, position)
            while got < 0 && errno == EINTR { got = pread(descriptor, buffer.baseAddress, count, position) }
            failure = got < 0 ? errno : 0
            filled = max(got, 0)
        }
        guard failure == 0 else { throw FileFault(.read, path, failure) }
        return bytes
    }

    func write(_ bytes: ArraySlice<UInt8>, at offset: UInt64) throws(FileFault) -> Int {
        guard let position = off_t(exactly: offset) else { throw FileFault(.write, path, EFBIG) }
        let count = bytes.withUnsafeBytes { buffer in
            var put = pwrite(descriptor, buffer.baseAddress, buffer.count, position)
            while put < 0 && errno == EINTR { put = pwrite(descriptor, buffer.baseAddress, buffer.count, position) }
            return put
        }
        guard count >= 0 else { throw FileFault(.write, path, errno) }
        return count
    }

    func sync() throws(FileFault) {
        guard fsync(descriptor) == 0 else { throw FileFault(.fsync, path, errno) }
    }

    func syncData() throws(FileFault) {
        guard fdatasync(descriptor) == 0 else { throw FileFault(.fdatasync, path, errno) }
    }
}

extension FileStatus {
    init(_ found: hop_file_status) {
        self.init(
            kind: Kind(mode: found.mode),
            size: found.size,
            inode: found.inode,
            mode: found.mode & 0o7777,
            owner: found.owner,
            isOwnedByUs: found.owner == Self.user,
            groupIsOurs: Self.groups.contains(found.group),
            links: found.links
        )
    }

    // This process never changes its user or groups.
    private static let user = geteuid()
    private static let groups: Set<gid_t> = {
        var groups = [gid_t](repeating: 0, count: Int(max(getgroups(0, nil), 0)))
        let filled = getgroups(Int32(groups.count), &groups)
        return Set(groups.prefix(Int(max(filled, 0)))).union([getegid()])
    }()
}

extension FileStatus.Kind {
    init(mode: UInt32) {
        self =
            switch mode & S_IFMT {
            case S_IFREG: .file
            case S_IFDIR: .folder
            case S_IFLNK: .symbolicLink
            default: .other
            }
    }
}
