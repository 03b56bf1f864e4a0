/// The tar format of backups: POSIX ustar, regular files only, names of the store's alphabet.
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

    /// Returns the sum of a header's bytes with its checksum field counted as spaces.
    static func checksum(_ header: ArraySlice<UInt8>) -> UInt64 {
        var sum: UInt64 = 0
        for (offset, byte) in header.enumerated() {
            sum += UInt64((148..<156).contains(offset) ? UInt8(ascii: " ") : byte)
        }
        return sum
    }
}

/// Writes an archive in memory.
package struct TarWriter {
    private var bytes: [UInt8] = []
    private let time: UInt64

    /// - Parameter time: The modification time of all files in seconds since 1970, for listings.
    package init(time: UInt64) {
        self.time = min(time, 0o77777777777)
    }

    /// Appends a file.
    ///
    /// - Throws: `badName` if the name does not fit into a header.
    package mutating func add(_ name: String, _ content: [UInt8]) throws(StoreError) {
        guard let (prefix, rest) = Self.split(name) else {
            throw StoreError(.badName, StoreKey.printable(name), "is too long for a tar archive; remove that file")
        }
        var header = [UInt8](repeating: 0, count: TarArchive.block)
        func put(_ text: some Sequence<UInt8>, at offset: Int) {
            for (index, byte) in text.enumerated() { header[offset + index] = byte }
        }
        func put(octal number: UInt64, digits: Int, at offset: Int) {
            let text = String(number, radix: 8)
            put((String(repeating: "0", count: digits - text.utf8.count) + text).utf8, at: offset)
        }
        put(rest.utf8, at: 0)
        put(octal: 0o600, digits: 7, at: 100)
        put(octal: 0, digits: 7, at: 108)
        put(octal: 0, digits: 7, at: 116)
        put(octal: UInt64(content.count), digits: 11, at: 124)
        put(octal: time, digits: 11, at: 136)
        header[156] = UInt8(ascii: "0")
        put(TarArchive.magic, at: 257)
        put(octal: 0, digits: 7, at: 329)
        put(octal: 0, digits: 7, at: 337)
        put(prefix.utf8, at: 345)
        put(octal: TarArchive.checksum(header[...]), digits: 6, at: 148)
        header[155] = UInt8(ascii: " ")
        bytes += header
        bytes += content
        fill(to: TarArchive.block)
    }

    /// Ends the archive and returns its bytes.
    package consuming func finish() -> [UInt8] {
        bytes += [UInt8](repeating: 0, count: 2 * TarArchive.block)
        fill(to: TarArchive.record)
        return bytes
    }

    private mutating func fill(to size: Int) {
        let rest = bytes.count % size
        if rest > 0 { bytes += [UInt8](repeating: 0, count: size - rest) }
    }

    /// Splits a name at the last "/" that leaves room for the rest.
    private static func split(_ name: String) -> (prefix: String, name: String)? {
        if name.utf8.count <= TarArchive.nameLimit { return ("", name) }
        var start = name.startIndex
        while let slash = name[start...].firstIndex(of: "/") {
            let rest = name[name.index(after: slash)...]
            if rest.utf8.count <= TarArchive.nameLimit {
                let prefix = name[..<slash]
                return prefix.utf8.count <= TarArchive.prefixLimit ? (String(prefix), String(rest)) : nil
            }
            start = name.index(after: slash)
        }
        return nil
    }
}
