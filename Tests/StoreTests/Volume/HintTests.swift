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
