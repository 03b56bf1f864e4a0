import CStore
import Glibc

/// An open descriptor of a folder, closed when deallocated.
final class PosixFolder: OpenFolder {
    private let descriptor: Int32
    /// The folder that the name is relative to, or `nil` if the name is an absolute path. Paths are built for faults
    /// only, because a start opens thousands of folders.
    private let above: PosixFolder?
    private let name: String

    init(opening path: String, with descriptors: DescriptorOpener) throws(FileFault) {
        above = nil
        name = path
        descriptor = try descriptors.open(path, O_RDONLY | O_DIRECTORY, call: .list)
    }

    /// Takes ownership of a descriptor.
    private init(_ descriptor: Int32, _ name: String, in above: PosixFolder) {
        self.descriptor = descriptor
        self.above = above
        self.name = name
    }

    var path: String { above.map { "\($0.path)/\(name)" } ?? name }

    deinit { close(descriptor) }

    func open(_ name: String) throws(FileFault) -> any OpenFile {
        let found = openat(descriptor, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC)
        guard found >= 0 else { throw FileFault(.open, "\(path)/\(name)", errno) }
        return try PosixFile(plain: found, name, in: self)
    }

    func openFolder(_ name: String) throws(FileFault) -> any OpenFolder {
        let found = openat(descriptor, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)
        guard found >= 0 else { throw DescriptorOpener.fault(descriptor, name, "\(path)/\(name)", .list) }
        return PosixFolder(found, name, in: self)
    }

    func list(limit: Int) throws(FileFault) -> FolderListing { try list(fresh: false, limit: limit) }

    /// Returns the names in the folder. Called once per descriptor; listing again requires opening it again.
    ///
    /// - Parameter fresh: Whether to ask the server first, bypassing its caches.
    func list(fresh: Bool, limit: Int) throws(FileFault) -> FolderListing {
        var found = hop_file_status()
        guard hop_status(descriptor, fresh ? 1 : 0, &found) == 0 else {
            throw FileFault(fresh ? .forceSync : .list, path, errno)
        }
        return FolderListing(names: try names(limit), status: FileStatus(found))
    }

    /// Reads the names into a buffer on the stack. It holds those of most folders of a store; larger ones take several
    /// reads.
    private func names(_ limit: Int) throws(FileFault) -> [String] {
        var names: [String] = []
        let room = above == nil ? 16_384 : 1_024
        let failure = withUnsafeTemporaryAllocation(byteCount: room, alignment: 8) { buffer -> Int32 in
            while true {
                let count = hop_read_names(descriptor, buffer.baseAddress, buffer.count)
                guard count > 0 else { return count == 0 ? 0 : errno }
                var position = 0
                while position < count {
                    let entry = hop_name(buffer.baseAddress! + position)
                    position += Int(entry.length)
                    let name = UnsafeRawBufferPointer(start: entry.name, count: Int(entry.size))
                    if name.elementsEqual(".".utf8) || name.elementsEqual("..".utf8) { continue }
                    guard names.count < limit else { return EFBIG }
                    names.append(String(decoding: name, as: UTF8.self))
                }
            }
        }
        guard failure == 0 else { throw FileFault(.list, path, failure) }
        return names
    }
}
