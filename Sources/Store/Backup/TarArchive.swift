import Crypto

/// The tar format of backups: POSIX ustar, regular files only, names of the store's alphabet. A name that does not fit
/// into a header is in an extended header of the kind "x" before it (POSIX pax), with the record "path" only.
///
/// ```
///   0  name       100     136  mtime    12     265  owner's name   32
/// 100  mode         8     148  checksum  8     297  group's name   32
/// 108  owner        8     156  kind      1     329  device         16
/// 116  group        8     157  link    100     345  prefix        155
/// 124  size        12     257  magic "ustar\0", version "00"
/// ```
///
/// Numbers are octal digits and a NUL. Each file consists of its header and its bytes, padded with NUL to a multiple of
/// 512; two blocks of NUL end the archive, which is padded to a multiple of 10,240.
enum TarArchive {
    static let block = 512
    static let record = 10_240
    static let nameLimit = 100
    static let prefixLimit = 155
    static let magic = Array("ustar\u{0}00".utf8)
    static let file = UInt8(ascii: "0")
    static let extended = UInt8(ascii: "x")
    /// The name in an extended header, and in the header of the file after it.
    static let extendedName = "long-name"
    /// The highest number of bytes of a name in an extended header, whose record fits into a block.
    static let longNameLimit = 480

    /// The bytes that are written or read at once.
    static let chunk = 1 << 20

    /// Returns the sum of a header's bytes with its checksum field counted as spaces.
    static func checksum(_ header: ArraySlice<UInt8>) -> UInt64 {
        var sum: UInt64 = 0
        for (offset, byte) in header.enumerated() {
            sum += UInt64((148..<156).contains(offset) ? UInt8(ascii: " ") : byte)
        }
        return sum
    }
}

extension TarArchive {
    /// Splits a name at the last "/" that leaves room for the rest, or returns `nil` if it does not fit into a header.
    static func split(_ name: String) -> (prefix: String, name: String)? {
        if name.utf8.count <= nameLimit { return ("", name) }
        var start = name.startIndex
        while let slash = name[start...].firstIndex(of: "/") {
            let rest = name[name.index(after: slash)...]
            if rest.utf8.count <= nameLimit {
                let prefix = name[..<slash]
                return prefix.utf8.count <= prefixLimit ? (String(prefix), String(rest)) : nil
            }
            start = name.index(after: slash)
        }
        return nil
    }

    /// Returns the record of a long name, which begins with its own length.
    static func record(ofLongName name: String) -> [UInt8] {
        let text = " path=\(name)\n"
        // All lengths of long names have three digits.
        return Array("\(text.utf8.count + 3)\(text)".utf8)
    }

    /// Returns the name in a record, or `nil` unless it is written exactly as ``record(ofLongName:)`` writes it.
    static func longName(in record: ArraySlice<UInt8>) -> String? {
        let name = String(decoding: record.dropFirst(9).dropLast(), as: UTF8.self)
        return name.utf8.count <= longNameLimit && split(name) == nil && Self.record(ofLongName: name) == Array(record)
            ? name : nil
    }
}

/// The bounds of an archive. A writer keeps room for the last file and the end, so a reader accepts all that it writes.
package struct ArchiveLimits: Sendable {
    /// The highest size of the last file.
    static let lastFile = 16_384

    /// The highest size of an archive in memory, which comes from or goes to a pipe.
    package static let memory = 1 << 30

    /// The highest number of bytes.
    package var size: Int
    /// The highest number of files, the last one included. As many as every prefix can list, the keys and documents of
    /// the cluster, and that last one.
    package var files = StoreLayout.kept.count * Volume.nameLimit + 1_000

    package init(isInMemory: Bool = false) {
        // A file may have as many bytes as the values of that number of files.
        size = isInMemory ? Self.memory : files * (Volume.valueLimit + 4 * TarArchive.block)
    }

    /// Whether a writer may reach this size and number of files before the last one.
    func allow(size: Int, files: Int) -> Bool {
        size + Self.lastFile + 2 * TarArchive.record <= self.size && files < self.files
    }
}

/// Writes an archive to a file, a chunk at a time.
package struct TarWriter {
    private let archive: ArchiveFile
    let time: UInt64
    private let limits: ArchiveLimits
    /// The bytes that are not written yet.
    private var buffer: [UInt8] = []
    private var hash = SHA256()
    private var size = 0
    private(set) var count = 0

    /// - Parameter time: The modification time of all files in seconds since 1970, for listings.
    package init(_ archive: ArchiveFile, time: UInt64, limits: ArchiveLimits? = nil) {
        self.archive = archive
        self.time = min(time, 0o77777777777)
        self.limits = limits ?? archive.limits
    }

    /// The SHA-256 of everything before the present end.
    var digest: [UInt8] {
        var hash = hash
        hash.update(data: buffer)
        return Array(hash.finalize())
    }

    /// Appends a file.
    ///
    /// - Throws: `badName` if the name does not fit into a header, `tooLarge` if a reader would refuse the archive.
    package mutating func add(_ name: String, _ content: [UInt8]) throws(StoreError) {
        guard limits.allow(size: size + content.count + 4 * TarArchive.block, files: count + 1) else {
            throw StoreError(
                .tooLarge,
                archive.place,
                "cannot hold the whole store: a backup has at most \(limits.size >> 20) MiB and \(limits.files) files; "
                    + (archive.isInMemory ? "write it to a file" : "copy the store's folder instead")
            )
        }
        try append(name, content)
    }

    /// Appends the file that describes the others, which has its own share of the limits, and ends the archive.
    package consuming func finish(_ name: String, _ content: [UInt8]) throws(StoreError) {
        precondition(content.count <= ArchiveLimits.lastFile, "the last file has a bound of its own")
        try append(name, content)
        buffer += [UInt8](repeating: 0, count: 2 * TarArchive.block)
        size += 2 * TarArchive.block
        fill(to: TarArchive.record)
        try archive.append(buffer)
    }

    private mutating func append(_ name: String, _ content: [UInt8]) throws(StoreError) {
        if let (prefix, rest) = TarArchive.split(name) {
            append(prefix, rest, TarArchive.file, content)
        } else {
            guard name.utf8.count <= TarArchive.longNameLimit else {
                throw StoreError(.badName, StoreKey.printable(name), "is too long for a backup; remove that file")
            }
            append("", TarArchive.extendedName, TarArchive.extended, TarArchive.record(ofLongName: name))
            append("", TarArchive.extendedName, TarArchive.file, content)
        }
        count += 1
        guard buffer.count >= TarArchive.chunk else { return }
        try archive.append(buffer)
        hash.update(data: buffer)
        buffer.removeAll(keepingCapacity: true)
    }

    private mutating func append(_ prefix: String, _ name: String, _ kind: UInt8, _ content: [UInt8]) {
        var header = [UInt8](repeating: 0, count: TarArchive.block)
        func put(_ text: some Sequence<UInt8>, at offset: Int) {
            for (index, byte) in text.enumerated() { header[offset + index] = byte }
        }
        func put(octal number: UInt64, digits: Int, at offset: Int) {
            let text = String(number, radix: 8)
            put((String(repeating: "0", count: digits - text.utf8.count) + text).utf8, at: offset)
        }
        put(name.utf8, at: 0)
        put(octal: 0o600, digits: 7, at: 100)
        put(octal: 0, digits: 7, at: 108)
        put(octal: 0, digits: 7, at: 116)
        put(octal: UInt64(content.count), digits: 11, at: 124)
        put(octal: time, digits: 11, at: 136)
        header[156] = kind
        put(TarArchive.magic, at: 257)
        put(octal: 0, digits: 7, at: 329)
        put(octal: 0, digits: 7, at: 337)
        put(prefix.utf8, at: 345)
        put(octal: TarArchive.checksum(header[...]), digits: 6, at: 148)
        header[155] = UInt8(ascii: " ")
        buffer += header
        buffer += content
        size += header.count + content.count
        fill(to: TarArchive.block)
    }

    private mutating func fill(to unit: Int) {
        let rest = size % unit
        guard rest > 0 else { return }
        buffer += [UInt8](repeating: 0, count: unit - rest)
        size += unit - rest
    }
}
