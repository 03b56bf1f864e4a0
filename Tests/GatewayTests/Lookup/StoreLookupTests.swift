import Gateway
import NIOCore
import NIOPosix
import Store
import Synchronization
import TestSupport
import Testing

@Suite("Reading what clients ask for before the watch delivers it")
struct StoreLookupTests {
    /// A look-up whose reads can be delayed and end with an error.
    private final class Rig: Sendable {
        let store = HeldStore()
        let lookup: StoreLookup
        let loop = MultiThreadedEventLoopGroup.singleton.next()
        let task: Task<Void, Never>

        init() {
            let store = store
            let lookup = StoreLookup(store: store) { id throws(StoreError) in
                guard let key = try? StoreKey("agents/\(id)") else { preconditionFailure("\(id) is a valid name") }
                _ = try await store.read(key)
            }
            self.lookup = lookup
            task = Task { await lookup.run() }
        }

        deinit { task.cancel() }

        func read(_ id: String, from host: Int? = nil, at now: NIODeadline = .now()) throws -> EventLoopFuture<Void>? {
            let address = try host.map { try SocketAddress(ipAddress: "192.0.\($0 >> 8).\($0 & 255)", port: 7) }
            return lookup.read(id, for: address, on: loop, now: now)
        }
    }

    @Test("Concurrent requests for an id share one read, and a missing id is not read again for a quarter of a second")
    func once() async throws {
        let rig = Rig()
        rig.store.hold(true)
        let before = NIODeadline.now()
        let futures = try (0..<50).map { _ in try #require(try rig.read("a")) }
        rig.store.hold(false)
        for future in futures { try await future.get() }
        #expect(rig.store.reads == 1)
        #expect(try rig.read("a", at: before) == nil)
        let after = NIODeadline.now()
        try await #require(try rig.read("a", at: after + StoreLookup.missingLifetime)).get()
        #expect(rig.store.reads == 2)
    }

    @Test("An id that was found is read again at once, since it may have changed")
    func found() async throws {
        let rig = Rig()
        try await rig.store.inner.write("agents/a", .create([]))
        let now = NIODeadline.now()
        for _ in 0..<2 { try await #require(try rig.read("a", at: now)).get() }
        #expect(rig.store.reads == 2)
    }

    @Test("Ten thousand random ids from a thousand addresses reach the store no more often than the limits allow")
    func flood() async throws {
        let rig = Rig()
        let now = NIODeadline.now()
        rig.store.hold(true)
        var futures: [EventLoopFuture<Void>] = []
        for number in 0..<10_000 {
            if let future = try rig.read("x\(number)", from: number % 1_000, at: now) { futures.append(future) }
        }
        #expect(futures.count == StoreLookup.readLimit)
        rig.store.hold(false)
        for future in futures { try await future.get() }
        // At the same instant the rest of the second's budget is left, and nothing more.
        for number in 0..<10_000 {
            guard let future = try rig.read("y\(number)", from: number % 1_000, at: now) else { continue }
            try await future.get()
        }
        #expect(rig.store.reads == StoreLookup.rate)
        // Half a second later the budget has half returned.
        for number in 0..<10_000 {
            guard let future = try rig.read("z\(number)", from: number % 1_000, at: now + .milliseconds(500))
            else { continue }
            try await future.get()
        }
        #expect(rig.store.reads == StoreLookup.rate * 3 / 2)
    }

    @Test("One address cannot use up the budget of the others")
    func address() async throws {
        let rig = Rig()
        let now = NIODeadline.now()
        var count = 0
        for number in 0..<1_000 {
            guard let future = try rig.read("x\(number)", from: 1, at: now) else { continue }
            try await future.get()
            count += 1
        }
        #expect(count == 10)
        #expect(try rig.read("other", from: 2, at: now) != nil)
    }

    @Test("After a failed read the next request reads again, and a store that does not respond is not read")
    func failures() async throws {
        let rig = Rig()
        rig.store.fail(StoreError(.transient, "x", "EIO"))
        try await #require(try rig.read("a")).get()
        rig.store.fail(nil)
        try await #require(try rig.read("a")).get()
        #expect(rig.store.reads == 2)
        rig.store.set(.stalled)
        #expect(try rig.read("b") == nil)
    }

    @Test("Requests that wait are bounded, and complete when reading is cancelled, also while a read hangs")
    func closed() async throws {
        let rig = Rig()
        rig.store.hold(true)
        let waiting = try (0..<StoreLookup.waiterLimit).map { _ in try #require(try rig.read("a")) }
        #expect(try rig.read("a") == nil)
        rig.task.cancel()
        for future in waiting { try await future.get() }
        rig.store.hold(false)
        await rig.task.value
        #expect(try rig.read("b") == nil)
    }
}
