import Foundation
import Glibc
import Store
import TestSupport
import Testing

@Suite("Files of versions")
struct VersionFileTests {
    private let scratch = ScratchFolder()

    private func volume() throws -> Volume { try scratch.volume(random: { 0x0123_4567_89ab_cdef }) }

    @Test("A version is a header with kind, epoch and nonce, and the bytes of the value")
    func golden() throws {
        let volume = try volume()
        let nonce = "0123456789abcdef0123456789abcdef"
        try volume.write("agents/a", .create(bytes("{}")))
        #expect(scratch.read("v2/agents/a/1.json") == bytes("HGV2 value 0 \(nonce)\n{}"))
        try volume.write("agents/a", .replace(1, []), epoch: 7)
        #expect(scratch.read("v2/agents/a/2.json") == bytes("HGV2 value 7 \(nonce)\n"))
        #expect(try volume.read("agents/a") == StoredValue(bytes: [], version: 2, epoch: 7))
        // A write without a lease keeps the epoch.
        try volume.write("agents/a", .remove(2))
        #expect(scratch.read("v2/agents/a/3.json") == bytes("HGV2 removed 7 \(nonce)\n"))
        #expect(scratch.names("v2/agents/a") == ["3.json"])
        try volume.write("agents/a", .create([0]))
        #expect(try volume.read("agents/a") == StoredValue(bytes: [0], version: 4, epoch: 7))
    }

    @Test("After a write of a later epoch a write of an earlier one is fenced")
    func fenced() throws {
        let volume = try volume()
        try volume.write("agents/a", .create([1]), epoch: 5)
        try volume.write("agents/a", .replace(1, [2]), epoch: 6)
        for change in [ValueWrite.create([3]), .replace(1, [3]), .replace(2, [3]), .remove(nil), .remove(2)] {
            #expect(code { try volume.write("agents/a", change, epoch: 5) } == .fenced)
        }
        #expect(try volume.read("agents/a").bytes == [2])
        try volume.write("agents/a", .remove(nil), epoch: 6)
        #expect(code { try volume.write("agents/a", .create([3]), epoch: 5) } == .fenced)
    }

    @Test("A file with another header is refused, and can be replaced and removed")
    func hostile() throws {
        let volume = try volume()
        let nonce = String(repeating: "0", count: 32)
        try volume.write("agents/a", .create([1]))
        let path = scratch.file("v2/agents/a/1.json")
        for header in [
            "", "{}", "HGV2", "HGV2 value 1 \(nonce)", "HGV2 value 01 \(nonce)\n", "HGV2 value -1 \(nonce)\n",
            "HGV2 value 99999999999999999999 \(nonce)\n", "HGV2 value 1 \(nonce.dropLast())\n",
            "HGV2 value  \(nonce)\n",
            "HGV2 value 1 \(nonce)0\n", "HGV2 value 1 \(nonce.dropLast())g\n", "HGV2 other 1 \(nonce)\n",
            "HGV2 removed 1 \(nonce)\nx", "HGV1 value 1 \(nonce)\n", "\u{0}HGV2 value 1 \(nonce)\n",
        ] {
            try Data(header.utf8).write(to: URL(fileURLWithPath: path))
            #expect(code { _ = try volume.read("agents/a") } == .corrupt, "\(header)")
        }
        try volume.write("agents/a", .replace(1, [2]))
        #expect(try volume.read("agents/a") == StoredValue(bytes: [2], version: 2))
        try Data("HGV3 ".utf8).write(to: URL(fileURLWithPath: scratch.file("v2/agents/a/2.json")))
        #expect(code { _ = try volume.read("agents/a") } == .newerFormat)
        #expect(code { try volume.raise("agents/a", to: 3) } == .newerFormat)
        try volume.write("agents/a", .remove(nil))
        #expect(code { _ = try volume.read("agents/a") } == .notFound)
    }

    @Test("A version that is refused can be replaced and removed by a write that names no version, also under a lease")
    func refused() throws {
        let volume = try scratch.volume()
        let key: StoreKey = "certs/a"
        let damages: [(String) -> Int32] = [
            { mkfifo($0, 0o600) }, { symlink("/etc/hostname", $0) }, { chmod($0, 0o644) },
            { truncate($0, off_t(8) << 30) },
            { path in
                mkdir(path, 0o700)
                return mkdir("\(path)/inner", 0o700)
            },
        ]
        for (index, damage) in damages.enumerated() {
            let version = try volume.write(key, .put([1]))
            let path = scratch.file("v2/\(key)/\(version + 1).json")
            // A file that the damage changes, or none that is in its way.
            if (2...3).contains(index) { scratch.write("v2/\(key)/\(version + 1).json", "x") }
            #expect(damage(path) == 0)
            let refusal = code { _ = try volume.read(key) }
            #expect(refusal == .refused || refusal == .tooLarge)
            #expect(code { try volume.write(key, .replace(version + 1, [2])) } == refusal)
            #expect(code { try volume.write(key, .create([2])) } == refusal)
            let candidate = LeaseCandidate(volume: volume, lease: "a", options: LeaseOptions(guards: [key]), name: "x")
            guard case .acquire(let epoch) = try candidate.poll(now: volume.now()) else { throw CancellationError() }
            let lease = try #require(try candidate.acquire(epoch))
            #expect(try lease.write(key, .put([2])) == version + 2)
            #expect(try volume.read(key).bytes == [2])
            try lease.release(now: volume.now())
            try volume.write(key, .remove(nil))
            #expect(scratch.names("v2/\(key)") == ["\(version + 3).json"])
        }
    }

    @Test("A store of the format before is refused with a remedy, and nothing is created beside it")
    func olderFormat() async throws {
        try FileManager.default.createDirectory(atPath: scratch.file("v1"), withIntermediateDirectories: false)
        for isCommand in [true, false] {
            let error = await #expect(throws: StoreError.self) {
                let path = scratch.file("v2")
                if isCommand {
                    _ = try await VolumeStore.openFounded(path: path, mounted: nil)
                } else {
                    _ = try await VolumeStore.open(path: path, mounted: nil)
                }
            }
            #expect(error?.code == .olderFormat && error?.reason.contains("move it away") == true)
        }
        #expect(scratch.names("") == ["v1"])
    }
}
