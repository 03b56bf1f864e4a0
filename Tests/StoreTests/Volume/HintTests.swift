import Glibc
import Store
import TestSupport
import Testing

@Suite("Hints")
struct HintTests {
    private let scratch = ScratchFolder()

    @Test("A process writes its hint although another creates the folder of the first hints at the same time")
    func race() throws {
        let files = try PosixFileSystem(path: scratch.file("v2"), creating: true)
        let volume = Volume(files: InterruptedFileSystem(files: files, losesFolders: true))
        try volume.prepare()
        try volume.write("certs/a", .create(bytes("x")))
        #expect(scratch.names("v2/certs/.changes") == ["1"])
    }

    @Test("A hint that is refused, and a folder of hints, are in the diagnostics of the store")
    func refused() throws {
        let volume = try scratch.volume()
        let store = VolumeStore(volume: volume)
        defer { store.close() }
        try volume.write("certs/a", .create(bytes("x")))
        #expect(volume.hint("certs", 1) == "a" && volume.hint("certs", 2) == nil)
        #expect(store.diagnostics.refusedHint == nil)
        for (name, mode) in [("certs/.changes/1", mode_t(0o644)), ("certs/.changes", 0o755)] {
            #expect(chmod(scratch.file("v2/\(name)"), mode) == 0)
            _ = volume.hint("certs", 1)
            _ = try? volume.hintNumbers("certs")
            #expect(store.diagnostics.refusedHint?.place == scratch.file("v2/\(name)"))
        }
    }

    @Test("A key that changes while it is read is read again at once, not by a later poll")
    func inFlight() throws {
        let volume = try scratch.volume()
        try volume.write("certs/a", .create(bytes("one")))
        let watch = PrefixWatch(volume: volume, scope: .below("certs"))
        watch.poll()
        /// The next part that reads a key.
        func nextKey() throws -> WatchPart {
            while true {
                let part = try #require(watch.nextPart())
                if !part.keys.isEmpty { return part }
                _ = watch.record(try #require(part.read()), of: part)
            }
        }
        let part = try nextKey()
        let findings = try #require(part.read())
        try volume.write("certs/a", .replace(1, bytes("two")))
        watch.poll()
        watch.enqueue("certs/a")
        watch.finish(watch.record(findings, of: part), rejecting: [])
        let again = try nextKey()
        #expect(watch.record(try #require(again.read()), of: again).contains { $0.isVersion(2) })
    }
}
