import Formats
import Foundation
import Gateway
import Store
import Testing

@Suite("The credentials that a gateway knows")
struct KnownCredentialsTests {
    let log = LogLines()

    @Test(
        "A token lives from its creation to its revocation",
        .timeLimit(.minutes(1)),
        arguments: TestStore.Driver.allCases
    )
    func life(_ driver: TestStore.Driver) async throws {
        let store = try TestStore(driver)
        let editor = store.editor
        let before = try await editor.create(name: "before").token
        let known = store.known(log.logger)
        try await known.load()
        #expect(try known.verify(before).isGranted)
        try await following(known) { heard in
            let created = ContinuousClock.now
            let token = try await editor.create(name: "web").token
            #expect(await becomesTrue { heard().added == [token.id] })
            #expect(ContinuousClock.now - created < .seconds(2))
            guard case .granted(let credential, _) = try known.verify(token) else {
                Issue.record("a good token was refused")
                return
            }
            #expect(credential.name == "web")
            #expect(known.credential(id: token.id)?.name == "web")
            let revoked = ContinuousClock.now
            _ = try await editor.revoke("web")
            #expect(await becomesTrue { heard().ended == [token.id] })
            #expect(ContinuousClock.now - revoked < .seconds(2))
            #expect(try known.verify(token).refusal == .revoked)
            #expect(try known.verify(token.id, "wrong").refusal == .wrongSecret)
            #expect(known.credential(id: token.id) == nil)
            #expect(known.statistics.good == 1 && known.statistics.revoked == 1)
            #expect(heard().changed.isEmpty && log.all.isEmpty)
        }
    }

    @Test("Unknown, wrong, replaced and revoked differ in nothing but the reason that we log")
    func sameOutside() async throws {
        let store = try TestStore()
        let good = try await store.editor.create(name: "good").token
        let bad = try await store.editor.create(name: "bad").token
        let old = try await store.editor.create(name: "old").token
        _ = try await store.editor.revoke(bad.id)
        _ = try await store.editor.rotate(old.id, grace: .seconds(60))
        store.now = store.now + .seconds(60)
        let known = store.known()
        try await known.load()
        let verdicts = [
            try known.verify(IssuedToken().id, good.secret, host: 1),
            try known.verify(good.id, bad.secret, host: 2),
            try known.verify(bad, host: 3),
            try known.verify(old, host: 4),
        ]
        #expect(verdicts.map(\.refusal) == [.unknown, .wrongSecret, .revoked, .expiredSecret])
        #expect(verdicts.allSatisfy { $0.wait == nil })
    }

    @Test("Hostile ids and secrets are refused")
    func hostile() async throws {
        let store = try TestStore()
        let token = try await store.editor.create(name: "web").token
        let known = store.known()
        try await known.load()
        let long = String(repeating: "a", count: 1_000_000)
        for id in ["", "../../etc/passwd", "\u{0}", long, token.id.uppercased(), token.id + "a"] {
            #expect(try known.verify(id, token.secret).refusal == .unknown)
        }
        for secret in ["", "\u{0}", long, token.secret + "\u{0}", String(token.secret.dropLast())] {
            #expect(try known.verify(token.id, secret).refusal == .wrongSecret)
        }
    }

    @Test(
        "After a rotation both secrets count until the grace is over; then sessions are told",
        .timeLimit(.minutes(1))
    )
    func rotation() async throws {
        let store = try TestStore()
        let known = store.known()
        try await known.load()
        try await following(known) { heard in
            let old = try await store.editor.create(name: "web").token
            let new = try await store.editor.rotate("web", grace: .seconds(3_600)).token
            #expect(await becomesTrue { (try? known.verify(new).isGranted) == true })
            #expect(try known.verify(old).isGranted)
            store.now = store.now + .seconds(3_599)
            #expect(try known.verify(old).isGranted)
            let changes = heard().changed.count
            store.now = store.now + .seconds(1)
            #expect(try known.verify(old).refusal == .expiredSecret)
            #expect(try known.verify(new).isGranted)
            #expect(await becomesTrue { heard().changed.count > changes })
            #expect(heard().changed.last == old.id)
        }
    }

    @Test(
        "What is forged, edited, copied, foreign or newer is refused, counted and logged once; the last good view stays",
        .timeLimit(.minutes(1)),
        arguments: TestStore.Driver.allCases
    )
    func forged(_ driver: TestStore.Driver) async throws {
        let store = try TestStore(driver)
        let token = try await store.editor.create(name: "web", services: ["front"]).token
        let other = try await store.editor.create(name: "other").token
        let known = store.known(log.logger)
        try await known.load()
        let copied = try await store.store.read(try StoreKey("agents/\(other.id)")).bytes
        let forger = try await Forger(store, token.id)
        let attacks = forger.attacks(copied: copied, otherID: other.id)
        try await following(known) { heard in
            for (index, attack) in attacks.enumerated() {
                try await endure(attack, UInt64(index + 2), store, known, token)
            }
            #expect(heard().ended.isEmpty && heard().changed.isEmpty)
            #expect(!log.all.contains { $0.contains(token.secret) })
            // Read again at every look, and told of no more.
            let lines = log.all.count
            let control = try await store.editor.create(name: "control").token
            #expect(await becomesTrue { heard().added == [control.id] })
            #expect(log.all.count == lines)
            // A genuine version mends it.
            try await store.plant(forger.sealed(forger.body, UInt64(attacks.count + 2)), id: token.id)
            #expect(await becomesTrue { known.statistics.bad == 0 })
            #expect(heard().changed == [token.id] && log.all.count == lines + 1)
        }
    }

    private func endure(
        _ attack: Forger.Attack,
        _ version: UInt64,
        _ store: TestStore,
        _ known: CredentialCache,
        _ token: IssuedToken
    ) async throws {
        let lines = log.all.count
        let before = known.statistics.faults
        var expected = before
        expected[attack.fault, default: 0] += 1
        try await store.plant(attack.bytes(version), id: token.id)
        let isCounted = await becomesTrue { known.statistics.faults != before }
        #expect(isCounted, "\(version)")
        #expect(known.statistics.faults == expected, "\(version)")
        #expect(known.statistics.bad == 1)
        #expect(log.all.count == lines + 1, "\(version): \(log.all.suffix(2))")
        let verdict = try known.verify(token)
        #expect(verdict.isGranted && known.credential(id: token.id)?.allows(service: "front") == true)
    }

    @Test("A document that was never genuine lets nobody in, at the start or later")
    func neverGood() async throws {
        let store = try TestStore()
        let token = try await store.editor.create(name: "web").token
        let bytes = try await store.store.read(try StoreKey("agents/\(token.id)")).bytes
        let copy = IssuedToken()
        try await store.plant(bytes, id: copy.id)
        try await store.plant(bytes, id: "Strange.Name")
        let known = store.known(log.logger)
        try await known.load()
        #expect(try known.verify(copy.id, token.secret).refusal == .unknown)
        #expect(known.statistics.good == 1 && known.statistics.bad == 2 && log.all.count == 2)
    }

    @Test("Removing a key by hand ends it, and so does removing its folder", .timeLimit(.minutes(1)))
    func removed() async throws {
        let store = try TestStore(.volume)
        let path = try #require(store.path)
        let tokens = [
            try await store.editor.create(name: "one").token, try await store.editor.create(name: "two").token,
            try await store.editor.create(name: "three").token,
        ]
        let known = store.known(log.logger)
        try await known.load()
        try await following(known) { heard in
            try await store.store.remove(try StoreKey("agents/\(tokens[0].id)"), expecting: nil)
            #expect(await becomesTrue { heard().ended == [tokens[0].id] })
            try FileManager.default.removeItem(atPath: "\(path)/agents/\(tokens[1].id)")
            #expect(await becomesTrue { heard().ended == [tokens[0].id, tokens[1].id] })
            #expect(try known.verify(tokens[2]).isGranted)
            // The removal's own version is taken away: what was before it counts no more.
            try FileManager.default.removeItem(atPath: "\(path)/agents/\(tokens[0].id)/2.json")
            #expect(await becomesTrue { known.statistics.faults[.rolledBack] == 1 })
            #expect(try known.verify(tokens[0]).refusal == .unknown)
            // A volume that went away is no revocation.
            try FileManager.default.moveItem(atPath: "\(path)/agents", toPath: "\(path)/away")
            #expect(await becomesTrue { (try? await store.store.list("agents")) == [] })
            #expect(try known.verify(tokens[2]).isGranted)
            try FileManager.default.moveItem(atPath: "\(path)/away", toPath: "\(path)/agents")
            let later = try await store.editor.create(name: "later").token
            #expect(await becomesTrue { heard().added == [later.id] })
            #expect(heard().ended.count == 2)
        }
    }

    @Test("An older version that is put back by removing the newer ones is not taken", .timeLimit(.minutes(1)))
    func rollback() async throws {
        let store = try TestStore(.volume)
        let path = try #require(store.path)
        let token = try await store.editor.create(name: "web").token
        _ = try await store.editor.revoke(token.id)
        let known = store.known(log.logger)
        try await known.load()
        try await following(known) { heard in
            try FileManager.default.removeItem(atPath: "\(path)/agents/\(token.id)/2.json")
            #expect(await becomesTrue { known.statistics.faults[.rolledBack] == 1 })
            #expect(try known.verify(token).refusal == .revoked)
            #expect(heard().added.isEmpty)
        }
    }

    @Test("What could not be verified is looked at again when the keys change", .timeLimit(.minutes(1)))
    func keys() async throws {
        let store = try TestStore()
        let first = store.keyring.signing
        let second = ClusterIdentity.ephemeral().keyring.signing
        let old = try await store.editor.create(name: "old").token
        let known = store.known(log.logger)
        try await known.load()
        try await following(known) { heard in
            // Another process signs with a key that is not known here yet.
            let ahead = CredentialEditor(store: store.store, keyring: ClusterKeyring([second, first]))
            let token = try await ahead.create(name: "new").token
            #expect(await becomesTrue { known.statistics.faults[.foreign] == 1 })
            #expect(try known.verify(token).refusal == .unknown)
            store.keyring = ClusterKeyring([second, first])
            #expect(await becomesTrue { heard().added == [token.id] })
            #expect(try known.verify(token).isGranted && known.verify(old).isGranted)
            // A key that is forgotten takes nothing away that was genuine when it was read.
            store.keyring = ClusterKeyring([second])
            _ = try await ahead.create(name: "last")
            #expect(await becomesTrue { heard().added.count == 2 })
            #expect(try known.verify(old).isGranted)
        }
    }

    @Test("A symbolic link and a file that is open to others are not taken", .timeLimit(.minutes(1)))
    func files() async throws {
        let store = try TestStore(.volume)
        let path = try #require(store.path)
        let linked = try await store.editor.create(name: "linked").token
        let open = try await store.editor.create(name: "open").token
        let file = "\(path)/agents/\(linked.id)/1.json"
        try FileManager.default.moveItem(atPath: file, toPath: "\(path)/elsewhere")
        try FileManager.default.createSymbolicLink(atPath: file, withDestinationPath: "\(path)/elsewhere")
        #expect(chmod("\(path)/agents/\(open.id)/1.json", 0o644) == 0)
        let known = store.known(log.logger)
        try await known.load()
        #expect(known.statistics.good == 0 && known.statistics.faults[.file] == 2)
        try await following(known) { heard in
            #expect(chmod("\(path)/agents/\(open.id)/1.json", 0o600) == 0)
            #expect(await becomesTrue { heard().added == [open.id] })
            let verdict = try known.verify(linked)
            #expect(verdict.refusal == .unknown)
        }
    }

    @Test("Ten thousand credentials are read; the figure is printed")
    func tenThousand() async throws {
        let store = try TestStore(.volume)
        let token = try await store.editor.create(
            name: "web",
            services: ["front", "api-*"],
            hosts: ["one.test", "*.two.test"]
        ).token
        let bytes = try await store.store.read(try StoreKey("agents/\(token.id)")).bytes
        let body = String(decoding: bytes, as: UTF8.self).replacing(/"mac":"[^"]*",/, with: "")
        let documents = (0..<10_000).map { _ -> (String, StoredValue) in
            let id = IssuedToken().id
            let document = SealedDocument.seal(
                Array(body.replacing(token.id, with: id).utf8),
                .credential,
                context: "agents/\(id)/1",
                with: store.keyring.signing
            )
            return (id, StoredValue(bytes: document, version: 1))
        }
        let keyring = store.keyring
        let decoding = try ContinuousClock().measure {
            for (id, stored) in documents { _ = try CredentialDocument(stored, id: id, keyring: keyring) }
        }
        let parsing = try ContinuousClock().measure {
            for (_, stored) in documents { _ = try JSONValue(json: stored.bytes) }
        }
        // As the store would have written them, without ten thousand times five fsyncs.
        let path = try #require(store.path)
        for (id, stored) in documents {
            try FileManager.default.createDirectory(atPath: "\(path)/agents/\(id)", withIntermediateDirectories: false)
            #expect(chmod("\(path)/agents/\(id)", 0o700) == 0)
            let file = "\(path)/agents/\(id)/1.json"
            let mode: [FileAttributeKey: Any] = [.posixPermissions: 0o600]
            try #require(FileManager.default.createFile(atPath: file, contents: Data(stored.bytes), attributes: mode))
        }
        var loading = Duration.seconds(60)
        for _ in 0..<5 {
            let known = store.known()
            loading = min(loading, try await ContinuousClock().measure { try await known.load() })
            #expect(known.statistics.good == 10_001 && known.statistics.bad == 0)
            #expect(try known.verify(token).isGranted)
        }
        print("10,000 credentials: verified and decoded in \(decoding), their JSON in \(parsing), loaded in \(loading)")
    }
}

/// Makes documents that are not what they should be.
private struct Forger {
    struct Attack {
        let fault: CredentialFault
        let bytes: (_ version: UInt64) -> [UInt8]
    }

    let id: String
    let key: ClusterKey
    let good: [UInt8]
    /// The genuine document without its MAC.
    let body: String

    init(_ store: TestStore, _ id: String) async throws {
        self.id = id
        key = store.keyring.signing
        good = try await store.store.read(try StoreKey("agents/\(id)")).bytes
        body = String(decoding: good, as: UTF8.self).replacing(/"mac":"[^"]*",/, with: "")
    }

    func sealed(_ body: String, _ version: UInt64, with key: ClusterKey? = nil) -> [UInt8] {
        let place = "agents/\(id)/\(version)"
        return SealedDocument.seal(Array(body.utf8), .credential, context: place, with: key ?? self.key)
    }

    private func edited(_ fault: CredentialFault, _ old: String, _ new: String) -> Attack {
        let text = body.replacing(old, with: new)
        precondition(text != body, "\(old) is not in the document")
        return Attack(fault: fault) { sealed(text, $0) }
    }

    func attacks(copied: [UInt8], otherID: String) -> [Attack] {
        let text = String(decoding: good, as: UTF8.self)
        let stranger = ClusterIdentity.ephemeral().keyring.signing
        let unsealed: [[UInt8]] = [
            good, copied, Array(body.utf8), [], [UInt8](repeating: 0xff, count: 5_000),
            Array(text.replacing("front", with: "admin").utf8),
        ]
        let malformed = [
            "{}", "{\"max_agents\":0," + body.dropFirst(), "{\"id\":1," + body.dropFirst(),
            "{\"a\":" + String(repeating: "[", count: 20_000) + "}",
            body.replacing(/"secrets":\[[^\]]*\]/, with: "\"secrets\":[]"),
        ]
        let large = "{\"a\":\"" + String(repeating: "x", count: 70_000) + "\"}"
        return unsealed.map { bytes in Attack(fault: .mac) { _ in bytes } }
            + malformed.map { text in Attack(fault: .malformed) { sealed(text, $0) } }
            + [
                Attack(fault: .foreign) { sealed(body, $0, with: stranger) },
                Attack(fault: .file) { sealed(large, $0) },
                edited(.format, "\"format\":1", "\"format\":2"),
                edited(.malformed, id, otherID),
                edited(.malformed, "\"web\"", "\"We b\""),
                edited(.malformed, "\"front\"", "7"),
                edited(.malformed, "\"front\"", "\"a b\""),
                edited(.malformed, "\"sha256\":\"", "\"sha256\":\"0"),
            ]
    }
}
