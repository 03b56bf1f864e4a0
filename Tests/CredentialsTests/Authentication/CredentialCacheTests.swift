import Credentials
import Formats
import Foundation
import NIOCore
import Store
import TestSupport
import Testing

@Suite("Authentication against the credentials in the store")
struct CredentialCacheTests {
    let log = LogLines()

    @Test(
        "A token is accepted from its creation to its revocation",
        .timeLimit(.minutes(1)),
        arguments: TestStore.Driver.allCases
    )
    func life(_ driver: TestStore.Driver) async throws {
        let store = try TestStore(driver)
        let editor = store.editor
        let before = try await editor.create(name: "before").token
        let cache = store.cache(log.logger)
        try await cache.load()
        #expect(try cache.verify(before).isGranted)
        try await watching(cache) { observed in
            let created = ContinuousClock.now
            let token = try await editor.create(name: "web").token
            try await eventually { observed().added == [token.id] }
            #expect(ContinuousClock.now - created < .seconds(2))
            guard case .granted(let credential, _) = try cache.verify(token) else {
                Issue.record("a valid token was refused")
                return
            }
            #expect(credential.name == "web")
            #expect(cache.credential(id: token.id)?.name == "web")
            let revoked = ContinuousClock.now
            _ = try await editor.revoke("web")
            try await eventually { observed().ended == [token.id] }
            #expect(ContinuousClock.now - revoked < .seconds(2))
            #expect(try cache.verify(token).refusal == .revoked)
            #expect(try cache.verify(token.id, "wrong").refusal == .wrongSecret)
            #expect(cache.credential(id: token.id) == nil)
            #expect(cache.statistics.valid == 1 && cache.statistics.revoked == 1)
            #expect(observed().changed.isEmpty && log.all.isEmpty)
        }
    }

    @Test(
        "A credential that is read early is accepted at once, and its changes are reported once",
        .timeLimit(.minutes(1)),
        arguments: TestStore.Driver.allCases
    )
    func early(_ driver: TestStore.Driver) async throws {
        let store = try TestStore(driver)
        let cache = store.cache(log.logger)
        try await cache.load()
        func refresh(_ token: IssuedToken) async throws { try await cache.refresh(id: token.id, within: .seconds(5)) }
        await #expect(throws: StoreError.self) { try await refresh(IssuedToken()) }
        let token = try await store.editor.create(name: "web").token
        try await refresh(token)
        #expect(try cache.verify(token).isGranted)
        try await watching(cache) { observed in
            let new = try await store.editor.rotate("web", grace: .zero).token
            try await refresh(token)
            #expect(try cache.verify(new).isGranted && !cache.verify(token).isGranted)
            _ = try await store.editor.revoke("web")
            try await refresh(token)
            #expect(try cache.verify(new).refusal == .revoked)
            try await refresh(token)
            let control = try await store.editor.create(name: "control").token
            try await eventually { observed().added.contains(control.id) }
            let ended = observed().ended
            #expect(ended == [token.id])
        }
    }

    @Test(
        "The responses to unknown ids and wrong, replaced and revoked secrets are equal, only the logged reasons differ"
    )
    func sameOutside() async throws {
        let store = try TestStore()
        let good = try await store.editor.create(name: "good").token
        let bad = try await store.editor.create(name: "bad").token
        let old = try await store.editor.create(name: "old").token
        _ = try await store.editor.revoke(bad.id)
        _ = try await store.editor.rotate(old.id, grace: .seconds(60))
        store.now = store.now + .seconds(60)
        let cache = store.cache()
        try await cache.load()
        let results = [
            try cache.verify(IssuedToken().id, good.secret, host: 1),
            try cache.verify(good.id, bad.secret, host: 2),
            try cache.verify(bad, host: 3),
            try cache.verify(old, host: 4),
        ]
        #expect(results.map(\.refusal) == [.unknown, .wrongSecret, .revoked, .expiredSecret])
        #expect(results.allSatisfy { $0.wait == nil })
    }

    @Test("Hostile ids and secrets are refused")
    func hostile() async throws {
        let store = try TestStore()
        let token = try await store.editor.create(name: "web").token
        let cache = store.cache()
        try await cache.load()
        let long = String(repeating: "a", count: 1_000_000)
        for id in ["", "../../etc/passwd", "\u{0}", long, token.id.uppercased(), token.id + "a"] {
            #expect(try cache.verify(id, token.secret).refusal == .unknown)
        }
        for secret in ["", "\u{0}", long, token.secret + "\u{0}", String(token.secret.dropLast())] {
            #expect(try cache.verify(token.id, secret).refusal == .wrongSecret)
        }
    }

    @Test(
        "After a rotation both secrets are accepted until the grace period ends, which is reported as a change",
        .timeLimit(.minutes(1))
    )
    func rotation() async throws {
        let store = try TestStore()
        let cache = store.cache()
        try await cache.load()
        try await watching(cache) { observed in
            let old = try await store.editor.create(name: "web").token
            let new = try await store.editor.rotate("web", grace: .seconds(3_600)).token
            try await eventually { (try? cache.verify(new).isGranted) == true }
            #expect(try cache.verify(old).isGranted)
            store.now = store.now + .seconds(3_599)
            #expect(try cache.verify(old).isGranted)
            let changes = observed().changed.count
            store.now = store.now + .seconds(1)
            #expect(try cache.verify(old).refusal == .expiredSecret)
            #expect(try cache.verify(new).isGranted)
            try await eventually { observed().changed.count > changes }
            #expect(observed().changed.last == old.id)
        }
    }

    @Test(
        "A forged, edited, copied, foreign or newer document is rejected, counted and logged once; the last valid one stays",
        .timeLimit(.minutes(1)),
        arguments: TestStore.Driver.allCases
    )
    func forged(_ driver: TestStore.Driver) async throws {
        let store = try TestStore(driver)
        let token = try await store.editor.create(name: "web", services: ["front"]).token
        let other = try await store.editor.create(name: "other").token
        let cache = store.cache(log.logger)
        try await cache.load()
        let copied = try await store.store.read(try StoreKey("agents/\(other.id)")).bytes
        let forger = try await Forger(store, token.id)
        let attacks = forger.attacks(copied: copied, otherID: other.id)
        try await watching(cache) { observed in
            for (index, attack) in attacks.enumerated() {
                try await endure(attack, UInt64(index + 2), store, cache, token)
            }
            #expect(observed().ended.isEmpty && observed().changed.isEmpty)
            #expect(!log.all.contains { $0.contains(token.secret) })
            // It is read again at every poll, but not logged again.
            let lines = log.all.count
            let control = try await store.editor.create(name: "control").token
            try await eventually { observed().added == [control.id] }
            #expect(log.all.count == lines)
            // A genuine version resolves the problem.
            try await store.plant(forger.sealed(forger.body, UInt64(attacks.count + 2)), id: token.id)
            try await eventually { cache.statistics.unusable == 0 }
            try await eventually { observed().changed == [token.id] }
            #expect(log.all.count == lines + 1)
        }
    }

    private func endure(
        _ attack: Forger.Attack,
        _ version: UInt64,
        _ store: TestStore,
        _ cache: CredentialCache,
        _ token: IssuedToken
    ) async throws {
        let lines = log.all.count
        let before = cache.statistics.faults
        var expected = before
        expected[attack.fault, default: 0] += 1
        try await store.plant(attack.bytes(version), id: token.id)
        try await eventually("\(version) is counted") { cache.statistics.faults != before }
        #expect(cache.statistics.faults == expected, "\(version)")
        #expect(cache.statistics.unusable == 1)
        #expect(log.all.count == lines + 1, "\(version): \(log.all.suffix(2))")
        let result = try cache.verify(token)
        #expect(result.isGranted && cache.credential(id: token.id)?.allows(service: "front") == true)
    }

    @Test("A document that was never genuine authenticates no agent")
    func neverGenuine() async throws {
        let store = try TestStore()
        let token = try await store.editor.create(name: "web").token
        let bytes = try await store.store.read(try StoreKey("agents/\(token.id)")).bytes
        let copy = IssuedToken()
        try await store.plant(bytes, id: copy.id)
        try await store.plant(bytes, id: "Strange.Name")
        let cache = store.cache(log.logger)
        try await cache.load()
        #expect(try cache.verify(copy.id, token.secret).refusal == .unknown)
        #expect(cache.statistics.valid == 1 && cache.statistics.unusable == 2 && log.all.count == 2)
        #expect(log.all.allSatisfy { $0.hasPrefix("credential unusable; agents with it are refused") })
    }

    @Test("Of many unusable credentials some are logged by name, the others as a number", .timeLimit(.minutes(1)))
    func manyUnusable() async throws {
        let store = try TestStore()
        for number in 0..<200 { try await store.plant(Array("damaged".utf8), id: "token\(number)") }
        let cache = store.cache(log.logger)
        try await cache.load()
        #expect(cache.statistics.unusable == 200)
        func lines(_ text: String) -> [String] { log.all.filter { $0.contains(text) } }
        try await watching(cache) { _ in
            try await eventually { !lines("more credentials unusable").isEmpty }
            #expect(lines("more credentials unusable").first?.contains("168") == true)
            #expect(lines("credential unusable; agents").count == 32)
            for number in 0..<50 {
                try await store.store.write(try StoreKey("agents/token\(number)"), .remove(nil))
            }
            try await eventually { cache.statistics.unusable == 150 }
            // A later one has a line again.
            try await store.plant(Array("damaged".utf8), id: "late")
            try await eventually { lines("credential unusable; agents").count == 33 }
        }
    }

    @Test("Removing a key or its folder by hand ends the credential", .timeLimit(.minutes(1)))
    func removed() async throws {
        let store = try TestStore(.volume)
        let path = try #require(store.path)
        let tokens = [
            try await store.editor.create(name: "one").token, try await store.editor.create(name: "two").token,
            try await store.editor.create(name: "three").token,
        ]
        let cache = store.cache(log.logger)
        try await cache.load()
        try await watching(cache) { observed in
            let folder = "\(path)/agents/\(tokens[0].id)"
            let first = try #require(FileManager.default.contents(atPath: "\(folder)/1.json"))
            try await store.store.write(try StoreKey("agents/\(tokens[0].id)"), .remove(nil))
            try await eventually { observed().ended == [tokens[0].id] }
            try FileManager.default.removeItem(atPath: "\(path)/agents/\(tokens[1].id)")
            try await eventually { observed().ended == [tokens[0].id, tokens[1].id] }
            #expect(try cache.verify(tokens[2]).isGranted)
            // A copy of an older version takes the place of the removal: it is not accepted any more.
            let mode = [FileAttributeKey.posixPermissions: 0o600]
            try #require(
                FileManager.default.createFile(atPath: "\(folder)/1.json", contents: first, attributes: mode)
            )
            try FileManager.default.removeItem(atPath: "\(folder)/2.json")
            try await eventually { cache.statistics.faults[.rolledBack] == 1 }
            #expect(try cache.verify(tokens[0]).refusal == .unknown)
            // A volume that is gone revokes nothing.
            try FileManager.default.moveItem(atPath: "\(path)/agents", toPath: "\(path)/away")
            try await eventually { (try? await store.store.list("agents")) == [] }
            #expect(try cache.verify(tokens[2]).isGranted)
            try FileManager.default.moveItem(atPath: "\(path)/away", toPath: "\(path)/agents")
            let later = try await store.editor.create(name: "later").token
            try await eventually { observed().added == [later.id] }
            #expect(observed().ended.count == 2)
        }
    }

    @Test("An older version that becomes the newest by removal of the newer ones is rejected", .timeLimit(.minutes(1)))
    func rollback() async throws {
        let store = try TestStore(.volume)
        let path = try #require(store.path)
        let token = try await store.editor.create(name: "web").token
        _ = try await store.editor.revoke(token.id)
        let cache = store.cache(log.logger)
        try await cache.load()
        try await watching(cache) { observed in
            try FileManager.default.removeItem(atPath: "\(path)/agents/\(token.id)/2.json")
            try await eventually { cache.statistics.faults[.rolledBack] == 1 }
            #expect(try cache.verify(token).refusal == .revoked)
            #expect(observed().added.isEmpty)
        }
    }

    @Test("A document that could not be verified is verified again when the keys change", .timeLimit(.minutes(1)))
    func keys() async throws {
        let store = try TestStore()
        let first = store.keyring.signing
        let second = ClusterKey.generate()
        let old = try await store.editor.create(name: "old").token
        let cache = store.cache(log.logger)
        try await cache.load()
        try await watching(cache) { observed in
            // Another process signs with a key that is not cache here yet.
            let ahead = CredentialEditor(store: store.store, keyring: ClusterKeyring([second, first]))
            let token = try await ahead.create(name: "new").token
            try await eventually { cache.statistics.faults[.foreign] == 1 }
            #expect(try cache.verify(token).refusal == .unknown)
            store.keyring = ClusterKeyring([second, first])
            try await eventually { observed().added == [token.id] }
            #expect(try cache.verify(token).isGranted && cache.verify(old).isGranted)
            // Removing a key does not affect credentials that were genuine when they were read.
            store.keyring = ClusterKeyring([second])
            _ = try await ahead.create(name: "last")
            try await eventually { observed().added.count == 2 }
            #expect(try cache.verify(old).isGranted)
        }
    }

    @Test("A symbolic link and a file that is open to other users are rejected", .timeLimit(.minutes(1)))
    func files() async throws {
        let store = try TestStore(.volume)
        let path = try #require(store.path)
        let linked = try await store.editor.create(name: "linked").token
        let open = try await store.editor.create(name: "open").token
        let file = "\(path)/agents/\(linked.id)/1.json"
        try FileManager.default.moveItem(atPath: file, toPath: "\(path)/elsewhere")
        try FileManager.default.createSymbolicLink(atPath: file, withDestinationPath: "\(path)/elsewhere")
        #expect(chmod("\(path)/agents/\(open.id)/1.json", 0o644) == 0)
        let cache = store.cache(log.logger)
        try await cache.load()
        #expect(cache.statistics.valid == 0 && cache.statistics.faults[.file] == 2)
        try await watching(cache) { observed in
            #expect(chmod("\(path)/agents/\(open.id)/1.json", 0o600) == 0)
            try await eventually { observed().added == [open.id] }
            let result = try cache.verify(linked)
            #expect(result.refusal == .unknown)
        }
    }

    @Test("Ten thousand credentials are loaded; the time is printed")
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
        // Written directly in the store's layout, to avoid five fsyncs for each.
        let path = try #require(store.path)
        for (id, stored) in documents {
            try FileManager.default.createDirectory(atPath: "\(path)/agents/\(id)", withIntermediateDirectories: false)
            #expect(chmod("\(path)/agents/\(id)", 0o700) == 0)
            let file = "\(path)/agents/\(id)/1.json"
            let mode: [FileAttributeKey: Any] = [.posixPermissions: 0o600]
            try #require(
                FileManager.default.createFile(atPath: file, contents: Data(storedFile(stored.bytes)), attributes: mode)
            )
        }
        var loading = Duration.seconds(60)
        for _ in 0..<5 {
            let cache = store.cache()
            loading = min(loading, try await ContinuousClock().measure { try await cache.load() })
            #expect(cache.statistics.valid == 10_001 && cache.statistics.unusable == 0)
            #expect(try cache.verify(token).isGranted)
        }
        print("10,000 credentials: verified and decoded in \(decoding), their JSON in \(parsing), loaded in \(loading)")
    }
}

/// Creates documents that must be rejected.
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
        let foreignKey = ClusterKey.generate()
        let unsealed: [[UInt8]] = [
            good, copied, Array(body.utf8), [], [UInt8](repeating: 0xff, count: 5_000),
            Array(text.replacing("front", with: "admin").utf8),
        ]
        let malformed = [
            "{}", "{\"max_agents\":0," + body.dropFirst(), "{\"id\":1," + body.dropFirst(),
            "{\"a\":" + String(repeating: "[", count: 20_000) + "}",
            body.replacing(/"secrets":\[[^\]]*\]/, with: "\"secrets\":[]"),
        ]
        let large = "{\"a\":\"" + String(repeating: "x", count: CredentialDocument.sizeLimit) + "\"}"
        return unsealed.map { bytes in Attack(fault: .mac) { _ in bytes } }
            + malformed.map { text in Attack(fault: .malformed) { sealed(text, $0) } }
            + [
                Attack(fault: .foreign) { sealed(body, $0, with: foreignKey) },
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
