internal import CStore
internal import Glibc

/// Opens absolute paths of which no component may be a symbolic link.
struct DescriptorOpener: Sendable {
    /// False where the kernel is too old for openat2, or a container's filter forbids it.
    private let hasOpenat2: Bool
    private static let racesAtMost: UInt32 = 7

    init() {
        let number = hop_open_without_links("/", UInt64(HOP_O_PATH | O_DIRECTORY), 0)
        hasOpenat2 = number >= 0
        if number >= 0 { close(number) }
    }

    func open(_ path: String, _ flags: Int32, mode: UInt32 = 0, call: FileFault.Call) throws(FileFault) -> Int32 {
        guard hasOpenat2 else { return try walk(path, flags, mode: mode, call: call) }
        return try Self.number(path, call) { hop_open_without_links(path, UInt64(flags), mode) }
    }

    /// Opens until it is known whether that works.
    ///
    /// - Parameter open: as open(2) answers. EAGAIN means that something on the way was renamed at the same moment
    ///   (openat2(2)); where that goes on, somebody does so on purpose, and the caller has better things to wait for.
    static func number(_ path: String, _ call: FileFault.Call, _ open: () -> Int32) throws(FileFault) -> Int32 {
        var races: UInt32 = 0
        while true {
            let number = open()
            if number >= 0 { return number }
            let failure = errno
            switch failure {
            case EINTR: continue
            case EAGAIN where races < Self.racesAtMost:
                // 0.1 ms, and each time twice as long: 13 ms together.
                usleep(100 << races)
                races += 1
            default: throw FileFault(call, path, failure)
            }
        }
    }

    /// The same by one openat for each component.
    func walk(_ path: String, _ flags: Int32, mode: UInt32, call: FileFault.Call) throws(FileFault) -> Int32 {
        let names = path.split(separator: "/").map(String.init)
        var current = Glibc.open("/", HOP_O_PATH | O_DIRECTORY | O_CLOEXEC)
        guard current >= 0 else { throw FileFault(call, path, errno) }
        defer { close(current) }
        for name in names.dropLast() {
            let next = openat(current, name, HOP_O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)
            guard next >= 0 else { throw fault(current, name, path, call) }
            close(current)
            current = next
        }
        let waiting = flags & HOP_O_PATH == 0 ? O_NONBLOCK : 0
        let number = openat(current, names.last ?? ".", flags | O_NOFOLLOW | O_CLOEXEC | waiting, mode)
        guard number >= 0 else { throw fault(current, names.last ?? ".", path, call) }
        return number
    }

    /// O_DIRECTORY answers ENOTDIR for a symbolic link; say what it is.
    private func fault(_ folder: Int32, _ name: String, _ path: String, _ call: FileFault.Call) -> FileFault {
        let number = errno
        var found = hop_file_status()
        let isLink = hop_status_at(folder, name, &found) == 0 && found.mode & S_IFMT == S_IFLNK
        return FileFault(call, path, isLink ? ELOOP : number)
    }
}

extension PosixFileSystem {
    /// What comes of opening a path when the system answers so, once after the other; nil if it is open. For tests.
    package static func opens(_ path: String, answers: () -> Int32) -> FileFault? {
        do {
            _ = try DescriptorOpener.number(path, .open, answers)
            return nil
        } catch {
            return error
        }
    }

    /// Opens an absolute path as a kernel without openat2 has to; nil if that works. For tests.
    package static func opensByWalking(_ path: String) -> FileFault? {
        do {
            close(try DescriptorOpener().walk(path, O_RDONLY, mode: 0, call: .open))
            return nil
        } catch {
            return error
        }
    }
}
