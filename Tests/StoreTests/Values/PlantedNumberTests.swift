import Foundation
import NIOCore
import Store
import TestSupport
import Testing

@Suite("Numbers that were put into the store by hand")
struct PlantedNumberTests {
    private static let greatest: UInt64 = 1 << 53
    /// Numbers beyond the greatest.
    private static let foreign = [greatest + 1, .max - 1, .max].map { "\($0)" } + ["99999999999999999999", "01", "0"]
    private let scratch = ScratchFolder()
    private let key: StoreKey = "certs/a"

    /// Puts a file into the store. Returns its path.
    @discardableResult
    private func plant(_ name: String, _ text: String) throws -> String {
        let folder = (scratch.file("v2/\(name)") as NSString).deletingLastPathComponent
        try FileManager.default.createDirectory(
            atPath: folder,
            withIntermediateDirectories: true,
            attributes: [.posixPermissions: 0o700]
        )
        return scratch.write("v2/\(name)", text)
    }

    private func version(_ epoch: String = "0") -> String {
        "HGV2 value \(epoch) \(String(repeating: "0", count: 32))\nx"
    }

    /// Acquires the lease that guards the key.
    private func acquire(_ volume: Volume) throws -> HeldLease {
        let candidate = LeaseCandidate(volume: volume, lease: "a", options: LeaseOptions(guards: [key]), name: "test")
        guard case .acquire(let epoch) = try candidate.poll(now: volume.now()) else {
            throw StoreError(.stalled, "locks/a", "is not free")
        }
        return try #require(try candidate.acquire(epoch))
    }

    @Test("A version, epoch or hint beyond the greatest is ignored by readers and writers, and the check names it")
    func foreign() throws {
        let volume = try scratch.volume()
        try volume.write(key, .create(bytes("one")))
        for number in Self.foreign {
            try plant("certs/a/\(number).json", version())
            try plant("certs/.changes/\(number)", "a\n")
        }
        for number in Self.foreign.prefix(4) { try plant("locks/a/\(number)", "") }
        #expect(try volume.read(key) == StoredValue(bytes: bytes("one"), version: 1))
        let lease = try acquire(volume)
        #expect(lease.epoch == 1)
        #expect(try lease.write(key, .replace(1, bytes("two"))) == 2)
        #expect(try volume.write(key, .remove(nil)) == 3)
        #expect(scratch.names("v2/certs/.changes").filter { ["1", "2", "3"].contains($0) }.count == 3)
        let remarks = volume.inspect().remarks
        let names = Self.foreign.map { "certs/a/\($0).json" } + Self.foreign.prefix(4).map { "locks/a/\($0)" }
        for name in names { #expect(remarks.contains { $0.contains("v2/\(name)\"") }, "\(name)") }
    }

    @Test("An epoch beyond the greatest in a version makes it a damaged one, which can be replaced under a lease")
    func foreignEpoch() throws {
        let volume = try scratch.volume()
        for number in Self.foreign where number != "0" {
            try plant("certs/a/1.json", version(number))
            #expect(code { _ = try volume.read(key) } == .corrupt)
            let lease = try acquire(volume)
            #expect(try lease.write(key, .replace(1, bytes("new"))) == 2)
            try lease.release(now: volume.now())
            #expect(try volume.read(key).bytes == bytes("new"))
            try FileManager.default.removeItem(atPath: scratch.file("v2/certs"))
        }
    }

    @Test("An epoch in a value that no lease gets to keeps no holder of the lease from writing")
    func highEpoch() throws {
        let volume = try scratch.volume()
        let epochs: [UInt64] = [1 << 52, (1 << 52) + 1, Self.greatest - 1, Self.greatest]
        for epoch in epochs {
            try plant("certs/a/1.json", version("\(epoch)"))
            #expect(try volume.read(key).bytes == bytes("x"))
            for number in 1...3 {
                let lease = try acquire(volume)
                // The new holder may have written the value again.
                let version = try volume.read(key).version
                #expect(try lease.write(key, .replace(version, bytes("new \(number)"))) == version + 1)
                // As after a loss of the leases.
                try lease.release(now: volume.now())
                try FileManager.default.removeItem(atPath: scratch.file("v2/locks/a"))
            }
            #expect(try volume.read(key).bytes == bytes("new 3"))
            try FileManager.default.removeItem(atPath: scratch.file("v2/certs"))
        }
    }

    @Test("A folder in the place of a hint does not give all later hints the same number")
    func hintFolder() throws {
        let volume = try scratch.volume()
        try plant("certs/.changes/\(Self.greatest - 1)/file", "x")
        for text in ["one", "two", "three"] { try volume.write(key, .put(bytes(text))) }
        #expect(scratch.names("v2/certs/.changes") == ["1", "2"])
    }

    @Test("The remedy for a version of the greatest number is the same for readers, writers and the check")
    func oneRemedy() throws {
        let volume = try scratch.volume()
        try volume.write(key, .create(bytes("one")))
        let name = "certs/a/\(Self.greatest).json"
        let top = scratch.file("v2/\(name)")
        let ways: [() throws -> Void] = [
            { _ = chmod(try plant(name, version()), 0o644) }, { _ = try plant(name, "noise") },
            { _ = mkdir(top, 0o700) }, { _ = mkfifo(top, 0o600) }, { _ = symlink("/etc/hostname", top) },
        ]
        for way in ways {
            try way()
            let reading = #expect(throws: StoreError.self) { _ = try volume.read(key) }
            let writing = #expect(throws: StoreError.self) { _ = try volume.write(key, .remove(nil)) }
            #expect(reading?.place == top && reading?.reason.hasSuffix("move it out of the store's folder") == true)
            #expect(writing == reading && volume.inspect().refused.first == reading)
            try FileManager.default.removeItem(atPath: top)
        }
    }

    @Test("The greatest version and the greatest epoch end with an error that names the file to move away")
    func greatest() throws {
        let volume = try scratch.volume()
        try volume.write(key, .create(bytes("one")))
        func delete(_ path: String, after body: () throws -> Void) throws {
            let thrown = #expect(throws: StoreError.self, performing: body)
            let error = try #require(thrown)
            #expect(error.code == .tooLarge && error.place == path)
            #expect(error.reason.hasSuffix("move it out of the store's folder"))
            #expect(volume.inspect().refused == [error])
            try FileManager.default.removeItem(atPath: path)
        }
        let top = try plant("certs/a/\(Self.greatest).json", version())
        try delete(top) { try volume.write(key, .replace(Self.greatest, bytes("two"))) }
        #expect(try volume.write(key, .replace(1, bytes("two"))) == 2)
        let record = LeaseRecord(
            epoch: Self.greatest,
            holder: randomIncarnation(),
            name: "planted",
            timeToLive: .seconds(1),
            counter: 1,
            isReleased: true
        )
        let epoch = try plant("locks/a/\(Self.greatest)", "")
        try Data(record.encoded()).write(to: URL(fileURLWithPath: epoch))
        chmod(epoch, 0o600)
        try delete(epoch) { _ = try acquire(volume) }
        #expect(try acquire(volume).epoch == 1)
        // The count of hints begins again.
        try plant("certs/.changes/\(Self.greatest)", "a\n")
        try volume.write(key, .remove(nil))
        #expect(scratch.names("v2/certs/.changes") == ["1"])
    }
}
