import FuzzDriver
import Store

/// The entry point of the fuzz target. The first byte of an input selects the kind of the rest. Archives are larger
/// than inputs, so most inputs are a short description of one.
@_cdecl("FuzzBackup_main")
public func fuzzBackupMain(_ argc: CInt, _ argv: UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>?) -> CInt {
    fuzz(argc, argv) { start, count in
        var script = Script(start, count)
        switch script.byte() & 3 {
        case 0: checkArchive(script.rest())
        case 1: checkArchive(damaged(&script))
        default: checkBackup(&script)
        }
        return 0
    }
}

/// Verifies that a parsed archive can be written again with the same content, and that its names stay within the store.
private func checkArchive(_ bytes: [UInt8]) {
    guard let input = archive(bytes), let entries = try? TarReader.list(input).entries, let last = entries.last,
        let output = archive([])
    else { return }
    var writer = TarWriter(output, time: 0)
    for entry in entries {
        let parts = entry.name.split(separator: "/", omittingEmptySubsequences: false)
        precondition(parts.allSatisfy { StoreKey.isComponent($0) }, "a name that leads out of the store")
        if let item = BackupItem(entry.name) { precondition(item.name == entry.name, "two spellings") }
        // A name may be split at another "/" than the writer would choose; the writer may then have no room for it.
        if entry != last, (try? writer.add(entry.name, Array(bytes[entry.range]))) == nil { return }
    }
    guard last.range.count <= 16_384, (try? writer.finish(last.name, Array(bytes[last.range]))) != nil else { return }
    let again = try? TarReader.list(output).entries
    precondition(again?.map(\.name) == entries.map(\.name), "writing changed names")
    precondition(
        again.map { $0.map { try? output.read($0.range) } } == entries.map { Array(bytes[$0.range]) },
        "writing changed contents"
    )
    _ = try? Backup(input, mounted: nil)
}

/// Returns an archive with these bytes.
private func archive(_ bytes: [UInt8]) -> ArchiveFile? {
    let file = ArchiveFile(inMemory: "input")
    return (try? file.append(bytes)) == nil ? nil : file
}

/// Reads a list of files: a name up to a line break, then a length and as many bytes. A length of 255 ends the list.
private func files(_ script: inout Script) -> [(name: String, content: [UInt8])] {
    var files: [(name: String, content: [UInt8])] = []
    while !script.isAtEnd, files.count < 64 {
        let name = String(decoding: script.bytes(until: 0x0a), as: UTF8.self)
        let length = script.byte()
        if length == 255 { break }
        files.append((name, script.bytes(Int(length))))
    }
    return files
}

/// Creates an archive, changes some bytes (two bytes of position, one of value), and corrects the first header's
/// checksum.
private func damaged(_ script: inout Script) -> [UInt8] {
    guard let output = archive([]) else { return [] }
    var writer = TarWriter(output, time: 1)
    for (name, content) in files(&script) { try? writer.add(name, content) }
    guard (try? writer.finish("last", [])) != nil, let size = try? output.size(), var bytes = try? output.read(0..<size)
    else { return [] }
    while !script.isAtEnd {
        let position = Int(script.byte()) << 8 | Int(script.byte())
        bytes[position % bytes.count] ^= script.byte()
    }
    var sum = 8 * 0x20
    for (offset, byte) in bytes[..<512].enumerated() where !(148..<156).contains(offset) { sum += Int(byte) }
    let digits = String(sum, radix: 8)
    let field = String(repeating: "0", count: 6 - digits.count) + digits + "\u{0} "
    for (offset, byte) in field.utf8.enumerated() { bytes[148 + offset] = byte }
    return bytes
}

private let key = ClusterKey(secret: [UInt8](repeating: 7, count: 32))

/// Creates a backup with a valid digest and valid seals, so that only the contents themselves can be refused.
private func checkBackup(_ script: inout Script) {
    let isSealed = script.byte() & 1 == 0
    var all = files(&script)
    for index in all.indices {
        let content = all[index].content
        guard isSealed, content.first == 0x7b, content.last == 0x7d,
            case .value(let name)? = BackupItem(all[index].name), SealedDocument.isSealed(name)
        else { continue }
        all[index].content = SealedDocument.seal(content, at: name, version: 1, with: key)
    }
    guard let output = archive([]) else { return }
    var writer = TarWriter(output, time: 1)
    for (name, content) in all where (try? writer.add(name, content)) == nil { return }
    guard (try? writer.finish(cluster: "c", release: "r", with: key)) != nil else { return }
    guard let backup = try? Backup(output, mounted: [key]) else { return }
    precondition(backup.cluster == "c" && backup.fileCount <= all.count && !backup.holdsKeys)
}
