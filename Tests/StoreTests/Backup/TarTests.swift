import Foundation
import Store
import TestSupport
import Testing

@Suite("Tar archives of backups")
struct TarTests {
    /// Returns an archive of these files, the last of which is the one that ends it.
    private func archive(_ files: [(String, [UInt8])]) throws -> [UInt8] {
        let file = ArchiveFile(inMemory: "x.tar")
        var writer = TarWriter(file, time: 1_700_000_000)
        for (name, content) in files.dropLast() { try writer.add(name, content) }
        let last = try #require(files.last)
        try writer.finish(last.0, last.1)
        return try contents(file)
    }

    private func read(_ bytes: [UInt8]) throws -> [TarReader.Entry] {
        try TarReader.list(archiveFile(bytes)).entries
    }

    /// Returns an archive whose first header was changed and has a valid checksum again.
    private func patched(_ bytes: [UInt8], at offset: Int, _ with: [UInt8]) -> [UInt8] {
        var bytes = bytes
        for (index, byte) in with.enumerated() { bytes[offset + index] = byte }
        var sum = 8 * 0x20
        for (offset, byte) in bytes[..<512].enumerated() where !(148..<156).contains(offset) { sum += Int(byte) }
        let text = String(sum, radix: 8)
        let digits = String(repeating: "0", count: 6 - text.count) + text
        for (index, byte) in digits.utf8.enumerated() { bytes[148 + index] = byte }
        return bytes
    }

    @Test("A written archive reads back, with files of every size and long names")
    func roundTrip() throws {
        let long = "v2/certs/\(String(repeating: "n", count: 255))/18446744073709551614.json"
        let files: [(String, [UInt8])] = [
            ("a", []), ("v2/b", [1]), ("v2/c", [UInt8](repeating: 2, count: 512)),
            (long, [UInt8](repeating: 3, count: 3_000_000)), ("v2/d", [UInt8](repeating: 4, count: 600_000)),
            ("e", [5]),
        ]
        let bytes = try archive(files)
        #expect(bytes.count % 10_240 == 0)
        let entries = try read(bytes)
        #expect(entries.map(\.name) == files.map(\.0))
        #expect(entries.map { Array(bytes[$0.range]) } == files.map(\.1))
    }

    @Test("tar lists and extracts it")
    func tar() throws {
        let scratch = ScratchFolder()
        let path = scratch.file("x.tar")
        let long = "v2/certs/\(String(repeating: "n", count: 253))/1.json"
        try Data(
            archive([("v2/agents/a/1.json", bytes("hello\n")), (long, bytes("long\n")), ("v2/keys/k", [0, 1, 2])])
        ).write(to: URL(fileURLWithPath: path))
        let tar = try ExternalProgram.runBlocking(["tar", "-xvf", path, "-C", scratch.path])
        #expect(tar.status == 0)
        #expect(tar.output == "v2/agents/a/1.json\n\(long)\nv2/keys/k\n")
        #expect(try Data(contentsOf: URL(fileURLWithPath: scratch.file(long))) == Data("long\n".utf8))
        #expect(try Data(contentsOf: URL(fileURLWithPath: scratch.file("v2/agents/a/1.json"))) == Data("hello\n".utf8))
    }

    @Test("A name that does not fit is refused, not truncated")
    func longName() throws {
        var writer = TarWriter(ArchiveFile(inMemory: "x"), time: 0)
        #expect(throws: StoreError.self) { try writer.add(String(repeating: "n", count: 481), []) }
        try writer.add(String(repeating: "n", count: 480), [])
    }

    @Test("An extended header is accepted only as it is written, and for the file after it")
    func extended() throws {
        let name = String(repeating: "n", count: 101)
        let good = try archive([(name, [7]), ("e", [])])
        #expect(try read(good).map(\.name) == [name, "e"])
        #expect(throws: StoreError.self) { try read(patched(good, at: 0, bytes("other"))) }
        #expect(throws: StoreError.self) { try read(patched(good, at: 124, bytes("00000001000"))) }
        for (offset, change) in [
            (512, "112"), (516, "size"), (521, "/"), (521, "."), (621, "\n"), (622, "n"), (623, "x"),
        ] {
            #expect(throws: StoreError.self) { try read(patched(good, at: offset, bytes(change))) }
        }
        // The header after it is of another extension, or the archive ends.
        #expect(throws: StoreError.self) { try read(good[..<1_024] + good) }
        #expect(throws: StoreError.self) { try read(good[..<1_024] + [UInt8](repeating: 0, count: 9_216)) }
    }

    @Test("An archive in a file holds all tokens that may be created, of the greatest size; a pipe 1 GiB")
    func capacity() {
        let (file, pipe) = (ArchiveLimits(), ArchiveLimits(isInMemory: true))
        #expect(file.files > 190_000 * 2)
        #expect(file.size > 190_000 * (128 << 10 + 2_048) && pipe.size == 1 << 30)
        let tooLarge = #expect(throws: StoreError.self) {
            var writer = TarWriter(ArchiveFile(inMemory: "x"), time: 0, limits: limits(size: 20_480))
            try writer.add("v2/1", [UInt8](repeating: 7, count: 20_480))
        }
        #expect(tooLarge?.reason.hasSuffix("write it to a file") == true)
    }

    private func limits(size: Int) -> ArchiveLimits {
        var limits = ArchiveLimits()
        limits.size = size
        return limits
    }

    @Test("A reader accepts everything that a writer with the same limits writes", arguments: [true, false])
    func limits(_ isBySize: Bool) throws {
        var limits = ArchiveLimits()
        if isBySize { limits.size = 512 << 10 } else { limits.files = 40 }
        let file = ArchiveFile(inMemory: "x")
        var writer = TarWriter(file, time: 0, limits: limits)
        var count = 0
        while (try? writer.add("v2/\(count)", [UInt8](repeating: 7, count: isBySize ? 900 : 10))) != nil { count += 1 }
        try writer.finish("last", [UInt8](repeating: 8, count: 16_384))
        #expect(try TarReader.list(file, limits: limits).entries.count == count + 1)
        #expect(isBySize ? count > 250 : count == 39)
        if isBySize { limits.size -= 40 << 10 } else { limits.files -= 1 }
        #expect(throws: StoreError.self) { try TarReader.list(file, limits: limits) }
    }

    @Test("Links, folders, devices, extensions and other formats are refused", arguments: 0..<10)
    func kinds(_ index: Int) throws {
        let good = try archive([("v2/a", [7])])
        #expect(try read(patched(good, at: 0, bytes("v2/b"))).count == 1)
        let bad: [[UInt8]] = [
            patched(good, at: 156, bytes("1")), patched(good, at: 156, bytes("2")), patched(good, at: 156, bytes("5")),
            patched(good, at: 156, bytes("x")), patched(good, at: 156, bytes("L")), patched(good, at: 156, [0]),
            patched(good, at: 257, bytes("ustar  \u{0}")), patched(good, at: 157, bytes("v2/b")),
            patched(good, at: 500, [1]), patched(good, at: 156, bytes("3")),
        ]
        #expect(throws: StoreError.self) { try read(bad[index]) }
    }

    @Test(
        "No name leads out of the store or can be read in two ways",
        arguments: [
            "../a", "/etc/passwd", "v2/../a", "v2//a", "v2/./a", "./v1/a", "v2/.a", "v2/a/", "v2/a b", "v2/a\\b",
            "v2/ä",
            "v2/a\u{0}b", "", "v2/a\n",
        ]
    )
    func names(_ name: String) throws {
        let good = try archive([(String(repeating: "n", count: 40), [7])])
        let field = Array(name.utf8) + [UInt8](repeating: 0, count: 100 - name.utf8.count)
        #expect(throws: StoreError.self) { try read(patched(good, at: 0, field)) }
    }

    @Test("Wrong sizes and invalid numbers are refused")
    func sizes() throws {
        let good = try archive([("v2/a", [UInt8](repeating: 7, count: 600))])
        for size in [
            "00000077777", "77777777777", "0000000113 ", " 0000001130", "0000000113x", "-0000001130",
        ] {
            #expect(throws: StoreError.self, "\(size)") { try read(patched(good, at: 124, bytes(size))) }
        }
        #expect(throws: StoreError.self) { try read(patched(good, at: 135, bytes(" "))) }
        // The base-256 form in which GNU tar writes large sizes.
        #expect(throws: StoreError.self) { try read(patched(good, at: 124, [0x80] + [UInt8](repeating: 0, count: 11))) }
    }

    @Test("Extra and missing bytes are refused")
    func ends() throws {
        let good = try archive([("v2/a", [7]), ("v2/b", [8])])
        for count in stride(from: 0, to: 2_560, by: 64) {
            #expect(throws: StoreError.self) { try read(Array(good[..<count])) }
        }
        for position in [512 + 1, 1_023, 1_024 + 513, 2_048, 3_000, good.count - 1] {
            var bad = good
            bad[position] ^= 1
            #expect(throws: StoreError.self, "\(position)") { try read(bad) }
        }
        #expect(throws: StoreError.self) { try read(good + [1]) }
        #expect(throws: StoreError.self) { try read(good + good) }
        #expect(throws: StoreError.self) { try read(archive([("v2/a", [7]), ("v2/a", [7])])) }
    }

    @Test("A file that is empty, no archive, an archive of another program, or truncated is called so")
    func foreign() throws {
        let good = try archive([("v2/a", [7])])
        for (content, words) in [
            ([], "is empty"), (Array("noise".utf8), "is no backup of a HopGate store"),
            ([UInt8](repeating: 0, count: 10_240), "is no backup of a HopGate store"),
            (patched(good, at: 257, bytes("ustar  \u{0}")), "is no backup of a HopGate store"),
            (Array(good.dropLast(512)), "is truncated"),
        ] as [([UInt8], String)] {
            let error = #expect(throws: StoreError.self) { try read(content) }
            #expect(error?.reason.hasPrefix(words) == true && error?.reason.contains("(byte") == false, "\(words)")
        }
    }

    @Test("Any flipped bit of a header is detected")
    func bits() throws {
        let good = try archive([("v2/agents/abc/1.json", [7])])
        for index in 0..<512 {
            for bit in 0..<8 {
                var bad = good
                bad[index] ^= 1 << bit
                #expect((try? read(bad)) == nil, "byte \(index), bit \(bit)")
            }
        }
    }
}
