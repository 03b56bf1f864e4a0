/// Reads what ``TarWriter`` writes, and nothing that leaves room for a second reading: no links, no folders, no
/// extensions, no name outside the store's alphabet, nothing behind the end.
package enum TarReader {
    package struct Entry: Equatable, Sendable {
        package let name: String
        package let content: ArraySlice<UInt8>
    }

    package static let entryLimit = 500_000

    /// - Parameter place: the archive, for messages.
    package static func entries(_ bytes: [UInt8], place: String) throws(StoreError) -> [Entry] {
        func damaged(_ position: Int, _ reason: String) -> StoreError {
            StoreError(.corrupt, place, "\(reason) (byte \(position)); it is no backup, or it is damaged")
        }
        guard bytes.count % TarArchive.record == 0 else { throw damaged(bytes.count, "ends in the middle") }
        var entries: [Entry] = []
        var names: Set<String> = []
        var position = 0
        while true {
            guard bytes.count - position >= TarArchive.block else { throw damaged(position, "ends in the middle") }
            let header = bytes[position..<position + TarArchive.block]
            if header.allSatisfy({ $0 == 0 }) { break }
            guard let (name, size) = parse(header) else {
                throw damaged(position, "has something that is not the header of a plain file")
            }
            guard let blocks = blocks(size), blocks <= bytes.count - position - TarArchive.block else {
                throw damaged(position, "ends in the middle")
            }
            let start = position + TarArchive.block
            guard bytes[(start + size)..<(start + blocks)].allSatisfy({ $0 == 0 }) else {
                throw damaged(start + size, "has bytes behind the end of a file")
            }
            guard entries.count < entryLimit else { throw damaged(position, "holds more than \(entryLimit) files") }
            guard names.insert(name).inserted else {
                throw damaged(position, "holds \(StoreKey.shown(name)) twice")
            }
            entries.append(Entry(name: name, content: bytes[start..<(start + size)]))
            position = start + blocks
        }
        guard bytes.count - position >= 2 * TarArchive.block, bytes[position...].allSatisfy({ $0 == 0 }) else {
            throw damaged(position, "does not end as an archive does")
        }
        return entries
    }

    private static func blocks(_ size: Int) -> Int? {
        let (sum, overflow) = size.addingReportingOverflow(TarArchive.block - 1)
        return overflow ? nil : sum / TarArchive.block * TarArchive.block
    }

    /// The name and size of a plain file; nil for any other header.
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
        // A component of the store has no ".." and no leading dot, so no name leads out of it.
        let parts = name.split(separator: "/", omittingEmptySubsequences: false)
        guard parts.allSatisfy({ StoreKey.isComponent($0) }) else { return nil }
        return (name, size)
    }

    /// Digits that fill the field up to one NUL at its end.
    private static func octal(_ field: ArraySlice<UInt8>) -> UInt64? {
        guard field.last == 0 else { return nil }
        var number: UInt64 = 0
        for byte in field.dropLast() {
            guard (UInt8(ascii: "0")...UInt8(ascii: "7")).contains(byte) else { return nil }
            number = number << 3 | UInt64(byte & 7)
        }
        return number
    }

    /// What stands before the first NUL; nil if something stands behind it, or if it is not plain text.
    private static func text(_ field: ArraySlice<UInt8>) -> String? {
        let text = field.prefix { $0 != 0 }
        guard field[text.endIndex...].allSatisfy({ $0 == 0 }), text.allSatisfy({ (0x21...0x7e).contains($0) }) else {
            return nil
        }
        return String(decoding: text, as: UTF8.self)
    }
}
