import CStore
import Glibc

/// Opens absolute paths of which no component may be a symbolic link.
package struct DescriptorOpener: Sendable {
    /// Whether openat2(2) works: the kernel may be too old for it, or a container's filter may forbid it.
    private let hasOpenat2: Bool
    /// The number of times that an opening is repeated after EAGAIN.
    private static let racesAtMost: UInt32 = 7

    package init() {
        let descriptor = hop_open_without_links("/", UInt64(HOP_O_PATH | O_DIRECTORY), 0)
        hasOpenat2 = descriptor >= 0
        if descriptor >= 0 { close(descriptor) }
    }

    /// Opens an absolute path and returns the descriptor.
    func open(_ path: String, _ flags: Int32, mode: UInt32 = 0, call: FileFault.Call) throws(FileFault) -> Int32 {
        guard hasOpenat2 else { return try walk(path, flags, mode: mode, call: call) }
        return try Self.descriptor(path, call) { hop_open_without_links(path, UInt64(flags), mode) }
    }

    /// Calls `open` until it succeeds or fails for good, and returns the descriptor.
    ///
    /// - Parameter open: Returns what open(2) returns. EAGAIN means that a component of the path was renamed at the
    ///   same moment (openat2(2)). It is retried a few times only: renames that do not stop are an attack, for which no
    ///   caller should wait.
    package static func descriptor(
        _ path: String,
        _ call: FileFault.Call,
        _ open: () -> Int32
    ) throws(FileFault) -> Int32 {
        var races: UInt32 = 0
        while true {
            let descriptor = open()
            if descriptor >= 0 { return descriptor }
            let failure = errno
            switch failure {
            case EINTR: continue
            case EAGAIN where races < Self.racesAtMost:
                // 0.1 ms, doubled each time: 13 ms in total.
                usleep(100 << races)
                races += 1
            default: throw FileFault(call, path, failure)
            }
        }
    }

    /// Opens an absolute path with one openat(2) per component, for systems without openat2(2).
    package func walk(_ path: String, _ flags: Int32, mode: UInt32, call: FileFault.Call) throws(FileFault) -> Int32 {
        let names = path.split(separator: "/").map(String.init)
        var current = Glibc.open("/", HOP_O_PATH | O_DIRECTORY | O_CLOEXEC)
        guard current >= 0 else { throw FileFault(call, path, errno) }
        defer { close(current) }
        for name in names.dropLast() {
            let next = openat(current, name, HOP_O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)
            guard next >= 0 else { throw Self.fault(current, name, path, call) }
            close(current)
            current = next
        }
        let waiting = flags & HOP_O_PATH == 0 ? O_NONBLOCK : 0
        let descriptor = openat(current, names.last ?? ".", flags | O_NOFOLLOW | O_CLOEXEC | waiting, mode)
        guard descriptor >= 0 else { throw Self.fault(current, names.last ?? ".", path, call) }
        return descriptor
    }

    /// Creates the fault of a failed openat(2). With O_DIRECTORY a symbolic link yields ENOTDIR; this reports ELOOP.
    static func fault(_ folder: Int32, _ name: String, _ path: String, _ call: FileFault.Call) -> FileFault {
        let number = errno
        var found = hop_file_status()
        let isLink = number == ENOTDIR && hop_status_at(folder, name, &found) == 0 && found.mode & S_IFMT == S_IFLNK
        return FileFault(call, path, isLink ? ELOOP : number)
    }
}
