import ACME
import Certificates
import Formats
import Gateway
import NIOCore
import Store
import TestSupport
import Testing

@Suite("Polling the challenges in the store")
struct ChallengeFollowerTests {
    private let start = NIODeadline.uptimeNanoseconds(1_000_000_000)

    private func stored(_ task: ChallengeTask, _ version: UInt64 = 1) -> Result<StoredValue, StoreError> {
        .success(StoredValue(bytes: task.document, version: version))
    }

    @Test("A new value is read at once, a known one after an announcement or after ten seconds")
    func due() throws {
        var watcher = ChallengeWatcher()
        let (a, b) = (try challenge("a"), try challenge("b"))
        #expect(watcher.beginPoll([a.storeKey], afterAnnouncement: false, now: start) == [a.storeKey])
        watcher.record(a.storeKey, stored(a), now: start)
        #expect(watcher.tasks == [a] && watcher.isComplete)
        let later = start + .seconds(1)
        #expect(watcher.beginPoll([a.storeKey, b.storeKey], afterAnnouncement: false, now: later) == [b.storeKey])
        watcher.record(b.storeKey, stored(b), now: later)
        let both = Set([a.storeKey, b.storeKey])
        #expect(watcher.beginPoll(Array(both), afterAnnouncement: false, now: later) == [])
        #expect(Set(watcher.beginPoll(Array(both), afterAnnouncement: true, now: later)) == both)
        #expect(Set(watcher.beginPoll(Array(both), afterAnnouncement: false, now: start + .seconds(10))) == both)
    }

    @Test("A withdrawn token that is presented again is found after its announcement")
    func again() throws {
        var watcher = ChallengeWatcher()
        let task = try challenge("a")
        let missing = StoreError(.notFound, task.storeKey.path, "gone")
        _ = watcher.beginPoll([task.storeKey], afterAnnouncement: true, now: start)
        watcher.record(task.storeKey, .failure(missing), now: start)
        #expect(watcher.isWithdrawn(task) && watcher.tasks.isEmpty)
        #expect(
            watcher.beginPoll([task.storeKey], afterAnnouncement: true, now: start + .seconds(1)) == [task.storeKey]
        )
        watcher.record(task.storeKey, stored(task, 3), now: start + .seconds(1))
        #expect(!watcher.isWithdrawn(task) && watcher.tasks == [task])
    }

    @Test("A challenge is not withdrawn if it was not read in a poll, or if its key is missing once")
    func notOver() throws {
        var watcher = ChallengeWatcher()
        let task = try challenge("a")
        _ = watcher.beginPoll([task.storeKey], afterAnnouncement: true, now: start)
        watcher.record(task.storeKey, .failure(StoreError(.notFound, "x", "gone")), now: start)
        // Presented again by this process, which does not announce it to itself.
        _ = watcher.beginPoll([task.storeKey], afterAnnouncement: false, now: start + .seconds(1))
        #expect(!watcher.isWithdrawn(task))
        _ = watcher.beginPoll([], afterAnnouncement: false, now: start + .seconds(2))
        #expect(!watcher.isWithdrawn(task))
        _ = watcher.beginPoll([], afterAnnouncement: false, now: start + .seconds(3))
        #expect(watcher.isWithdrawn(task))
    }

    @Test("A volume that does not respond changes nothing and leaves the poll incomplete")
    func transient() throws {
        var watcher = ChallengeWatcher()
        let task = try challenge("a")
        _ = watcher.beginPoll([task.storeKey], afterAnnouncement: true, now: start)
        watcher.record(task.storeKey, stored(task), now: start)
        _ = watcher.beginPoll([task.storeKey], afterAnnouncement: true, now: start + .seconds(1))
        watcher.record(task.storeKey, .failure(StoreError(.stalled, "x", "hangs")), now: start + .seconds(1))
        #expect(!watcher.isComplete && !watcher.isWithdrawn(task))
        #expect(
            watcher.beginPoll([task.storeKey], afterAnnouncement: false, now: start + .seconds(2)) == [task.storeKey]
        )
    }

    @Test("Any value that has not changed for an hour expires; a new version starts the hour again")
    func old() throws {
        var watcher = ChallengeWatcher()
        let (task, other) = (try challenge("a"), try challenge("b"))
        _ = watcher.beginPoll([task.storeKey, other.storeKey], afterAnnouncement: true, now: start)
        watcher.record(task.storeKey, stored(task), now: start)
        watcher.record(other.storeKey, .success(StoredValue(bytes: [1], version: 7)), now: start)
        let hour = start + .hours(1)
        #expect(watcher.expired(now: hour).isEmpty)
        watcher.record(task.storeKey, stored(task, 2), now: hour)
        let old = watcher.expired(now: hour + .seconds(1))
        #expect(old.map(\.key) == [other.storeKey] && old.map(\.version) == [7])
        watcher.recordRemoval(of: other.storeKey, now: hour)
        #expect(watcher.expired(now: hour + .seconds(1)).isEmpty)
    }

    @Test("Forged values are reported once each and never used")
    func forged() throws {
        let good = try challenge("token")
        let key = good.storeKey
        var forgeries: [[UInt8]] = [
            [], Array("null".utf8), Array("[1]".utf8), Array("{".utf8), [0xff, 0xfe, 0x00],
            [UInt8](repeating: UInt8(ascii: "["), count: 4_000),
            [UInt8](repeating: UInt8(ascii: " "), count: ChallengeTask.documentLimit) + good.document,
            challengeFields("other").json,
        ]
        let changes: [(String, JSONValue?)] = [
            ("format", nil), ("format", .integer(2)), ("format", .string("1")), ("type", .string("dns-02")),
            ("type", nil), ("name", .string("../x")), ("name", .string("*.app.test")), ("name", .null),
            ("token", .string("token/../x")), ("token", .string("")), ("token", .integer(1)),
            ("key_authorization", .string("other.\(thumbprint)")), ("key_authorization", .string("token")),
            ("key_authorization", .string("token.\(thumbprint)\r\nX: y")),
            ("key_authorization", .string("token.\(thumbprint).")), ("key_authorization", .string("token.short")),
            ("key_authorization", .string("<script>.\(thumbprint)")), ("key_authorization", nil),
        ]
        for (name, value) in changes {
            var fields = challengeFields("token")
            fields[name] = value
            forgeries.append(fields.json)
        }
        var watcher = ChallengeWatcher()
        for (index, bytes) in forgeries.enumerated() {
            let version = UInt64(index + 1)
            _ = watcher.beginPoll([key], afterAnnouncement: true, now: start)
            watcher.record(key, .success(StoredValue(bytes: bytes, version: version)), now: start)
            #expect(watcher.newProblems.count == 1, "\(String(decoding: bytes, as: UTF8.self))")
            #expect(watcher.tasks.isEmpty && watcher.isWithdrawn(good))
            _ = watcher.beginPoll([key], afterAnnouncement: true, now: start)
            watcher.record(key, .success(StoredValue(bytes: bytes, version: version)), now: start)
            #expect(watcher.newProblems.isEmpty)
        }
        _ = watcher.beginPoll([key], afterAnnouncement: true, now: start)
        watcher.record(key, .failure(StoreError(.refused, key.path, "is open to others")), now: start)
        #expect(watcher.newProblems.count == 1 && watcher.isComplete)
    }

    @Test("In a folder with too many values only some are considered")
    func tooMany() throws {
        var watcher = ChallengeWatcher()
        let keys = try (0...ChallengeWatcher.keyLimit).map { try ChallengeTask.prefix.child("\($0)") }
        #expect(watcher.beginPoll(keys, afterAnnouncement: true, now: start).count == ChallengeWatcher.keyLimit)
        #expect(watcher.isTruncated)
    }
}
