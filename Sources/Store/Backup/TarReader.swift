import Crypto

/// Reads what ``TarWriter`` writes and rejects everything that could be read in a second way: links, folders,
/// extensions, names outside the store's alphabet, bytes behind the end.
package struct TarReader {
    /// The location of a file in the archive.
    package struct Entry: Equatable, Sendable {
        package let name: String
        /// The range of its content.
        package let range: Range<Int>
    }

    /// The files of an archive.
    package struct Listing: Sendable {
        package var entries: [Entry] = []
        /// The SHA-256 of everything before the last file.
        var digest: [UInt8] = []
    }

    private let archive: ArchiveFile
    private let size: Int
    /// The bytes that were read last, and their offset.
    private var chunk: [UInt8] = []
    private var offset = 0
    private var position = 0
    private var hash = SHA256()

    /// Reads an archive from its start to its end.
    package static func list(
        _ archive: ArchiveFile,
        limits: ArchiveLimits? = nil
    ) throws(StoreError) -> Listing {
        let limits = limits ?? archive.limits
        let size = try archive.size()
        guard size <= limits.size else {
            throw StoreError(.tooLarge, archive.place, "is larger than the \(limits.size >> 20) MiB of a backup")
        }
        guard size > 0 else { throw StoreError(.corrupt, archive.place, "is empty; use another backup") }
        let start = try archive.read(0..<min(size, TarArchive.block))[...]
        guard start.count == TarArchive.block,
            parse(start, TarArchive.file) != nil || parse(start, TarArchive.extended) != nil
        else {
            let reason = "is no backup of a HopGate store, or its beginning is damaged"
            throw StoreError(.corrupt, archive.place, "\(reason); name a file that hopgate backup wrote")
        }
        guard size % TarArchive.record == 0 else {
            let reason = "is truncated, or something was added to it; use another backup"
            throw StoreError(.corrupt, archive.place, reason)
        }
        var reader = TarReader(archive: archive, size: size)
        return try reader.list(limits)
    }

    private init(archive: ArchiveFile, size: Int) {
        self.archive = archive
        self.size = size
    }

    private mutating func list(_ limits: ArchiveLimits) throws(StoreError) -> Listing {
        var listing = Listing()
        var names: Set<String> = []
        while true {
            let digest = hash
            var header = try next(TarArchive.block)
            if header.allSatisfy({ $0 == 0 }) { break }
            var long: String?
            if let (name, count) = Self.parse(header, TarArchive.extended) {
                let record = try next(TarArchive.block)
                long = TarArchive.longName(in: record.prefix(count))
                guard name == TarArchive.extendedName, long != nil, record.dropFirst(count).allSatisfy({ $0 == 0 })
                else { throw damaged("has an extended header that is not one of a backup") }
                header = try next(TarArchive.block)
            }
            guard let (short, count) = Self.parse(header, TarArchive.file), Self.isName(long ?? short),
                long == nil || short == TarArchive.extendedName
            else { throw damaged("has a block that is not the header of a regular file") }
            let name = long ?? short
            guard let blocks = Self.blocks(count), blocks <= size - position else { throw damaged("is truncated") }
            guard listing.entries.count < limits.files else { throw damaged("holds more than \(limits.files) files") }
            guard names.insert(name).inserted else { throw damaged("holds \(StoreKey.printable(name)) twice") }
            listing.entries.append(Entry(name: name, range: position..<(position + count)))
            listing.digest = Array(digest.finalize())
            var left = count
            while left > 0 { left -= try next(min(left, TarArchive.chunk)).count }
            guard try next(blocks - count).allSatisfy({ $0 == 0 }) else {
                throw damaged("has bytes after the end of a file")
            }
        }
        guard size - position >= TarArchive.block else { throw damaged("does not end like an archive") }
        while position < size {
            guard try next(min(size - position, TarArchive.chunk)).allSatisfy({ $0 == 0 }) else {
                throw damaged("does not end like an archive")
            }
        }
        return listing
    }

    /// Reads the next bytes, at most a chunk.
    private mutating func next(_ count: Int) throws(StoreError) -> ArraySlice<UInt8> {
        if position + count > offset + chunk.count {
            chunk = try archive.read(position..<min(size, position + TarArchive.chunk))
            offset = position
        }
        guard position + count <= offset + chunk.count else { throw damaged("is truncated") }
        let bytes = chunk[(position - offset)..<(position - offset + count)]
        bytes.withUnsafeBytes { hash.update(bufferPointer: $0) }
        position += count
        return bytes
    }

    private func damaged(_ reason: String) -> StoreError {
        StoreError(.corrupt, archive.place, "\(reason) (byte \(position)); it is not a backup, or it is damaged")
    }

    private static func blocks(_ size: Int) -> Int? {
        let (sum, overflow) = size.addingReportingOverflow(TarArchive.block - 1)
        return overflow ? nil : sum / TarArchive.block * TarArchive.block
    }

    /// Whether no component has a leading dot, so that the name does not lead out of the store.
    private static func isName(_ name: String) -> Bool {
        name.split(separator: "/", omittingEmptySubsequences: false).allSatisfy { StoreKey.isComponent($0) }
    }

    /// Returns the name and size in a header of a kind, or `nil` for any other header.
    private static func parse(_ header: ArraySlice<UInt8>, _ kind: UInt8) -> (name: String, size: Int)? {
        let base = header.startIndex
        func field(_ offset: Int, _ count: Int) -> ArraySlice<UInt8> { header[base + offset..<base + offset + count] }
        guard field(257, 8).elementsEqual(TarArchive.magic), header[base + 156] == kind,
            field(157, 100).allSatisfy({ $0 == 0 }), field(500, 12).allSatisfy({ $0 == 0 }),
            octal(field(148, 7)) == TarArchive.checksum(header), header[base + 155] == UInt8(ascii: " "),
            let size = octal(field(124, 12)).flatMap({ Int(exactly: $0) }),
            let rest = text(field(0, 100)), let prefix = text(field(345, 155)), !rest.isEmpty
        else { return nil }
        return (prefix.isEmpty ? rest : "\(prefix)/\(rest)", size)
    }

    /// Parses octal digits that fill a field up to one NUL at its end.
    private static func octal(_ field: ArraySlice<UInt8>) -> UInt64? {
        guard field.last == 0 else { return nil }
        var number: UInt64 = 0
        for byte in field.dropLast() {
            guard (UInt8(ascii: "0")...UInt8(ascii: "7")).contains(byte) else { return nil }
            number = number << 3 | UInt64(byte & 7)
        }
        return number
    }

    /// Returns the text before the first NUL, or `nil` if anything else follows it or it is not printable ASCII.
    private static func text(_ field: ArraySlice<UInt8>) -> String? {
        let text = field.prefix { $0 != 0 }
        guard field[text.endIndex...].allSatisfy({ $0 == 0 }), text.allSatisfy({ (0x21...0x7e).contains($0) }) else {
            return nil
        }
        return String(decoding: text, as: UTF8.self)
    }
}
