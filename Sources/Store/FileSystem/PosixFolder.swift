internal import CStore
internal import Glibc

/// An open descriptor of a folder, closed when it is let go.
final class PosixFolder: OpenFolder {
    private(set) var listing: FolderListing
    private let number: Int32
    private let path: String

    /// - Parameter fresh: asks the server past its caches first.
    init(
        opening path: String,
        fresh: Bool,
        limit: Int,
        with descriptors: DescriptorOpener
    ) throws(FileFault) {
        self.path = path
        number = try descriptors.open(path, O_RDONLY | O_DIRECTORY, call: .list)
        var found = hop_file_status()
        let isKnown = hop_status(number, fresh ? 1 : 0, &found) == 0
        let failure = errno
        listing = FolderListing(names: [], status: FileStatus(found))
        // From here on the descriptor is closed with this object.
        guard isKnown else { throw FileFault(fresh ? .forceSync : .list, path, failure) }
        listing.names = try names(limit)
    }

    deinit { close(number) }

    func open(_ name: String) throws(FileFault) -> any OpenFile {
        let full = "\(path)/\(name)"
        let found = openat(number, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC)
        guard found >= 0 else { throw FileFault(.open, full, errno) }
        return try PosixFile(plain: found, path: full)
    }

    /// Most folders of a store hold a handful of names; larger ones take a few turns.
    private func names(_ limit: Int) throws(FileFault) -> [String] {
        var names: [String] = []
        let failure = withUnsafeTemporaryAllocation(byteCount: 16_384, alignment: 8) { buffer -> Int32 in
            while true {
                let count = hop_read_names(number, buffer.baseAddress, buffer.count)
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
