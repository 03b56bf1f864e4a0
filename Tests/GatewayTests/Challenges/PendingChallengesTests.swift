import ACME
import Certificates
import Formats
import Gateway
import NIOCore
import Store
import Synchronization
import TestSupport
import Testing

@Suite("Challenges that a watch has delivered")
struct PendingChallengesTests {
    private static let start = NIODeadline.uptimeNanoseconds(1_000_000_000)

    private func pending() -> PendingChallenges {
        let clock = Clock(start: Self.start)
        return PendingChallenges(keyring: { challengeKeyring }) { clock.now }
    }

    /// A clock that the test sets.
    private final class Clock: Sendable {
        private let value: Mutex<NIODeadline>

        init(start: NIODeadline) { value = Mutex(start) }

        var now: NIODeadline {
            get { value.withLock { $0 } }
            set { value.withLock { $0 = newValue } }
        }
    }

    @discardableResult
    private func deliver(
        _ bytes: [UInt8]?,
        _ version: UInt64,
        at key: StoreKey,
        to pending: PendingChallenges
    ) -> [StoreKey] {
        let content = bytes.map { WatchedChange.Content.value(StoredValue(bytes: $0, version: version)) }
        let change = WatchedChange(key: key, content: content ?? .removed(version: version))
        return pending.receive(WatchBatch(changes: [change]))
    }

    @Test("A challenge is known from its delivery to its removal, and again when the token is presented again")
    func life() throws {
        let pending = pending()
        let (task, alpn) = (try challenge("a"), try challenge("b", .tlsALPN01))
        deliver(task.sealedDocument, 1, at: task.storeKey, to: pending)
        deliver(alpn.sealedDocument, 1, at: alpn.storeKey, to: pending)
        #expect(pending.http("a") == task && pending.http("b") == nil && pending.http("c") == nil)
        deliver(nil, 2, at: task.storeKey, to: pending)
        #expect(pending.http("a") == nil)
        // This process presents it again and hears of the removal late.
        pending.insert(task.storeKey.name, version: 3, PendingChallenge(task, since: Self.start))
        deliver(nil, 2, at: task.storeKey, to: pending)
        #expect(pending.http("a") == task)
        let gone = WatchedChange(key: task.storeKey, content: .collected)
        _ = pending.receive(WatchBatch(changes: [gone]))
        #expect(pending.http("a") == nil && pending.entries.count == 1)
    }

    @Test("Any value that has not changed for an hour expires; a new version starts the hour again")
    func old() throws {
        let clock = Clock(start: Self.start)
        let pending = PendingChallenges(keyring: { challengeKeyring }) { clock.now }
        let (task, other) = (try challenge("a"), try challenge("b"))
        deliver(task.sealedDocument, 1, at: task.storeKey, to: pending)
        deliver([1], 7, at: other.storeKey, to: pending)
        clock.now = Self.start + .hours(1)
        // It is delivered again and again because it cannot be used.
        deliver([1], 7, at: other.storeKey, to: pending)
        #expect(pending.expired(now: clock.now).isEmpty)
        deliver(task.sealedDocument, 2, at: task.storeKey, to: pending)
        let old = pending.expired(now: clock.now + .seconds(1))
        #expect(old.map(\.name) == [other.storeKey.name] && old.map(\.version) == [7])
        pending.remove(other.storeKey.name, version: 8)
        #expect(pending.expired(now: clock.now + .seconds(1)).isEmpty)
    }

    @Test("Forged values are reported once each and never used")
    func forged() throws {
        let good = try challenge("token")
        let key = good.storeKey
        var forgeries: [[UInt8]] = [
            [], Array("null".utf8), Array("[1]".utf8), Array("{".utf8), [0xff, 0xfe, 0x00],
            [UInt8](repeating: UInt8(ascii: "["), count: 4_000),
            [UInt8](repeating: UInt8(ascii: " "), count: ChallengeTask.documentLimit) + good.document,
            // Well-formed, but not sealed by this cluster at this key.
            good.document, good.sealed(with: ClusterKey.generate()),
            try challenge("other").sealedDocument,
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
            forgeries.append(
                SealedDocument.seal(fields.json, .challenge, context: key.path, with: challengeKeyring.signing)
            )
        }
        let pending = pending()
        let problems = Mutex(0)
        let store = VolumeStore.inMemory()
        defer { store.close() }
        pending.watch(store, .below(ChallengeTask.prefix)) { changes in
            problems.withLock { $0 += changes.count { $0.newProblem != nil } }
        }
        for (index, bytes) in forgeries.enumerated() {
            let version = UInt64(index + 1)
            for _ in 0..<2 {
                #expect(deliver(bytes, version, at: key, to: pending) == [key])
                #expect(problems.withLock { $0 } == index + 1, "\(String(decoding: bytes, as: UTF8.self))")
            }
            #expect(pending.http("token") == nil)
        }
    }

    @Test("Ten thousand challenges are known at the same time, and ten thousand removed ones do not displace them")
    func many() throws {
        let pending = pending()
        for number in 0..<10_000 {
            let (task, removed) = (try challenge("t\(number)"), try challenge("r\(number)"))
            deliver(removed.sealedDocument, 1, at: removed.storeKey, to: pending)
            deliver(nil, 2, at: removed.storeKey, to: pending)
            deliver(task.sealedDocument, 1, at: task.storeKey, to: pending)
        }
        #expect((0..<10_000).allSatisfy { pending.http("t\($0)") != nil && pending.http("r\($0)") == nil })
    }
}
