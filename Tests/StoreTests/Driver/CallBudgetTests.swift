import NIOCore
import Store
import TestSupport
import Testing

/// The numbers of calls that the volume serves, which decide how fast a store is on a network.
@Suite("Calls of the volume")
struct CallBudgetTests {
    private let scratch = ScratchFolder()
    private let volume: Volume
    private let counts: CountingFileSystem.Counts

    init() throws {
        let files = CountingFileSystem(files: try scratch.posixFiles())
        counts = files.counts
        volume = Volume(files: files)
    }

    @Test("A first pass lists and reads each key once, a round without changes lists them, and a poll the hints only")
    func firstPass() throws {
        for number in 0..<48 { try volume.write(StoreKey("agents/k\(number)"), .create([1])) }
        let watch = PolledValues(volume: volume, prefix: "agents")
        counts.reset()
        try watch.poll()
        #expect(watch.current.count == 48)
        // The hints and, after its parent folder was asked for, the prefix are listed.
        #expect(counts.kinds == ["statx": 1, "list": 2 + 48, "open": 48])
        counts.reset()
        try watch.poll()
        #expect(counts.kinds == ["statx": 1, "list": 2 + 48])
        counts.reset()
        try watch.poll()
        #expect(counts.kinds == ["list": 1])
    }
}
