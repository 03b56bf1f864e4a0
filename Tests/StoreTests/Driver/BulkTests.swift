import Foundation
import Glibc
import NIOCore
import Store
import Synchronization
import TestSupport
import Testing

@Suite("Many values")
struct BulkTests {
    @Test("Ten thousand values are read at once; one that cannot be read is reported and delays nothing")
    func tenThousand() async throws {
        let scratch = ScratchFolder()
        let volume = try scratch.volume()
        // The same files as the store would write, without five fsyncs each.
        for number in 0..<10_000 {
            try volume.files.makeFolder("agents/k\(number)")
            let path = scratch.file("v2/agents/k\(number)/1.json")
            let content = bytes(#"{"number":\#(number),"text":"\#(String(repeating: "x", count: 400))"}"#)
            let made = FileManager.default.createFile(
                atPath: path,
                contents: Data(storedFile(content)),
                attributes: [.posixPermissions: number == 77 ? 0o644 : 0o600]
            )
            try #require(made)
        }
        let store = VolumeStore(volume: volume)
        defer { store.close() }
        var fastest = TimeAmount.hours(1)
        var cheapest = Int.max
        for _ in 0..<5 {
            let (began, used) = (NIODeadline.now(), processorMicroseconds())
            let all = try await store.readAll("agents")
            fastest = min(fastest, NIODeadline.now() - began)
            cheapest = min(cheapest, processorMicroseconds() - used)
            let bad = all.compactMap { reading -> (StoreKey, StoreError.Code)? in
                if case .failure(let error) = reading.value { (reading.key, error.code) } else { nil }
            }
            #expect(all.count == 10_000 && bad.map(\.0) == ["agents/k77"] && bad.map(\.1) == [.refused])
        }
        print("NOTE 10,000 values read in \(fastest.nanoseconds / 1_000) us, \(cheapest) us of CPU time")
    }

    @Test("A reading whose task is cancelled fails, and does not return a part of the values as all")
    func cancelled() async throws {
        let scratch = ScratchFolder()
        let store = VolumeStore(volume: try scratch.volume())
        defer { store.close() }
        try await store.write("agents/a", .create(bytes("1")))
        let error = await Task { () -> StoreError? in
            withUnsafeCurrentTask { $0?.cancel() }
            do throws(StoreError) {
                _ = try await store.readAll("agents")
                return nil
            } catch {
                return error
            }
        }.value
        #expect(error?.code == .closed)
    }

    @Test("A restore writes sixteen values at the same time, can be repeated, and ends at the first failure")
    func createAll() async throws {
        let scratch = ScratchFolder()
        let store = VolumeStore(volume: try scratch.volume())
        defer { store.close() }
        let keys = try (0..<200).map { try StoreKey("agents/k\($0)") }
        let first = Rendezvous(of: 16)
        try await store.createAll(keys) { key in
            first.pass()
            return bytes(key.path)
        }
        let values = try await store.readAll("agents")
        #expect(values.count == 200)
        for (key, value) in values { #expect(try value.get() == StoredValue(bytes: bytes(key.path), version: 1)) }
        #expect(scratch.names("v2/tmp") == [] && scratch.names("v2/agents/.changes") == [])

        // Again, with a value that differs.
        let reads = Mutex(0)
        let error = await #expect(throws: StoreError.self) {
            try await store.createAll(keys) { key in
                reads.withLock { $0 += 1 }
                return bytes(key == "agents/k0" ? "other" : key.path)
            }
        }
        #expect(error?.code == .exists(newest: 1) && error?.place == scratch.file("v2/agents/k0"))
        #expect(reads.withLock { $0 } < 200)
    }
}

/// Lets threads pass when a number of them have arrived.
private final class Rendezvous: @unchecked Sendable {
    private let condition = NSCondition()
    private var missing: Int

    init(of count: Int) { missing = count }

    func pass() {
        condition.withLock {
            missing -= 1
            condition.broadcast()
            let deadline = Date(timeIntervalSinceNow: 20)
            while missing > 0, condition.wait(until: deadline) {}
            if missing > 0 { Issue.record("\(missing) more did not arrive") }
        }
    }
}

/// Returns the user and system time of this process.
private func processorMicroseconds() -> Int {
    var usage = rusage()
    getrusage(__rusage_who_t(RUSAGE_SELF.rawValue), &usage)
    let seconds = usage.ru_utime.tv_sec + usage.ru_stime.tv_sec
    return seconds * 1_000_000 + Int(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec)
}
