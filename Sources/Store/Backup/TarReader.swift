/// Reads what ``TarWriter`` writes and rejects everything that could be read in a second way: links, folders,
/// extensions, names outside the store's alphabet, bytes behind the end.
package enum TarReader {
    package struct Entry: Equatable, Sendable {
        package let name: String
        package let content: ArraySlice<UInt8>
    }

    package static let entryLimit = 500_000

    /// Parses an archive.
    ///
    /// - Parameter place: The name of the archive, for messages.
    package static func entries(_ bytes: [UInt8], place: String) throws(StoreError) -> [Entry] {
        func damaged(_ position: Int, _ reason: String) -> StoreError {
            StoreError(.corrupt, place, "\(reason) (byte \(position)); it is not a backup, or it is damaged")
        }
        guard bytes.count % TarArchive.record == 0 else { throw damaged(bytes.count, "is truncated") }
        var entries: [Entry] = []
        var names: Set<String> = []
        var position = 0
        while true {
            guard bytes.count - position >= TarArchive.block else { throw damaged(position, "is truncated") }
            let header = bytes[position..<position + TarArchive.block]
            if header.allSatisfy({ $0 == 0 }) { break }
            guard let (name, size) = parse(header) else {
                throw damaged(position, "has a block that is not the header of a regular file")
            }
            guard let blocks = blocks(size), blocks <= bytes.count - position - TarArchive.block else {
                throw damaged(position, "is truncated")
            }
            let start = position + TarArchive.block
            guard bytes[(start + size)..<(start + blocks)].allSatisfy({ $0 == 0 }) else {
                throw damaged(start + size, "has bytes after the end of a file")
            }
            guard entries.count < entryLimit else { throw damaged(position, "holds more than \(entryLimit) files") }
            guard names.insert(name).inserted else {
                throw damaged(position, "holds \(StoreKey.printable(name)) twice")
            }
            entries.append(Entry(name: name, content: bytes[start..<(start + size)]))
            position = start + blocks
        }
        guard bytes.count - position >= 2 * TarArchive.block, bytes[position...].allSatisfy({ $0 == 0 }) else {
            throw damaged(position, "does not end like an archive")
        }
        return entries
    }

    private static func blocks(_ size: Int) -> Int? {
        let (sum, overflow) = size.addingReportingOverflow(TarArchive.block - 1)
        return overflow ? nil : sum / TarArchive.block * TarArchive.block
    }

    /// Returns the name and size of a regular file, or `nil` for any other header.
    private static func parse(_ header: ArraySlice<UInt8>) -> (name: String, size: Int)? {
        let base = header.startIndex
        func field(_ offset: Int, _ count: Int) -> ArraySlice<UInt8> { header[base + offset..<base + offset + count] }
        guard field(257, 8).elementsEqual(TarArchive.magic), header[base + 156] == UInt8(ascii: "0"),
            field(157, 100).allSatisfy({ $0 == 0 }), field(500, 12).allSatisfy({ $0 == 0 }),
            octal(field(148, 7)) == TarArchive.checksum(header), header[base + 155] == UInt8(ascii: " "),
            let size = octal(field(124, 12)).flatMap({ Int(exactly: $0) }),
            let rest = text(field(0, 100)), let prefix = text(field(345, 155)), !rest.isEmpty
        else { return nil }
        let name = prefix.isEmpty ? rest : "\(prefix)/\(rest)"
        // Components have no leading dot, so no name leads out of the store.
        let parts = name.split(separator: "/", omittingEmptySubsequences: false)
        guard parts.allSatisfy({ StoreKey.isComponent($0) }) else { return nil }
        return (name, size)
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
