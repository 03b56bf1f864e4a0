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
        // The hints and the prefix are listed, too.
        #expect(counts.kinds == ["list": 2 + 48, "open": 48])
        counts.reset()
        try watch.poll()
        #expect(counts.kinds == ["list": 2 + 48])
        counts.reset()
        try watch.poll()
        #expect(counts.kinds == ["list": 1])
    }

    /// Returns the numbers of calls, by kind.
    private func calls(_ body: () throws -> Void) rethrows -> [String: Int] {
        counts.reset()
        try body()
        return counts.kinds
    }

    @Test("A value is read in two calls")
    func reading() throws {
        try volume.write("agents/a", .create([1]))
        #expect(try calls { _ = try volume.read("agents/a") } == ["list": 1, "open": 1])
    }

    @Test(
        "A write reads the newest version, publishes the next and lists the versions; only watched prefixes get a hint"
    )
    func writing() throws {
        for key in ["acme/orders/a", "agents/a"] as [StoreKey] { try volume.write(key, .create([1])) }
        #expect(
            try calls { try volume.write("acme/orders/b", .create([1])) }
                == ["mkdir": 1, "list": 2, "open": 1, "link": 1, "unlink": 1, "fsync": 2]
        )
        #expect(
            try calls { try volume.write("acme/orders/b", .put([2])) }
                == ["list": 3, "open": 2, "link": 1, "unlink": 1, "fsync": 1]
        )
        #expect(try calls { try volume.write("acme/orders/b", .put([2])) } == ["list": 1, "open": 1])
        #expect(
            try calls { try volume.write("agents/a", .put([2])) }
                == ["list": 3, "open": 3, "link": 2, "unlink": 2, "fsync": 1]
        )
    }

    @Test("Values that are created together are published by one rename each, and become durable together")
    func creatingAll() throws {
        let keys = try (0..<8).map { try StoreKey("agents/k\($0)") }
        func create() throws { try volume.createAll(keys[...]) { _ in [1] } }
        // The prefix is there; the folder for temporary files is missing at first, and deleted at the end.
        let group = ["mkdir": 1 + 2, "fsync": 1 + 1, "list": 1, "rmdir": 1]
        let written = group.merging(["mkdir": 8, "open": 8, "fsync": 8 + 1, "rename": 8], uniquingKeysWith: +)
        #expect(try calls(create) == written)
        // Again, as after an interruption.
        counts.reset()
        try create()
        #expect(counts.kinds["rename"] == 8 && counts.kinds["open"] == 8 + 8)
    }

    @Test("A lease is checked by one listing, and before a write by its file, too")
    func lease() throws {
        let key: StoreKey = "acme/orders/a"
        try volume.write(key, .create([1]))
        let candidate = LeaseCandidate(
            volume: volume,
            lease: "certs/a",
            options: LeaseOptions(guards: [key]),
            name: "test"
        )
        guard case .acquire(let epoch) = try candidate.poll(now: volume.now()) else {
            Issue.record("the lease is held")
            return
        }
        let lease = try #require(try candidate.acquire(epoch))
        #expect(try calls { try lease.check() } == ["list": 1])
        #expect(
            try calls { _ = try lease.write(key, .put([2])) }
                == ["list": 4, "open": 3, "link": 1, "unlink": 1, "fsync": 1]
        )
    }
}
