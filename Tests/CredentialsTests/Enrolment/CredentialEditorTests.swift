import Credentials
import Formats
import Foundation
import Store
import TestSupport
import Testing

@Suite("Changes of credentials by operators")
struct CredentialEditorTests {
    @Test("A token has an id of 80 bits and a secret of 256, and shows only the id when printed")
    func token() {
        let tokens = (0..<200).map { _ in IssuedToken() }
        #expect(Set(tokens.map(\.id)).count == 200 && Set(tokens.map(\.secret)).count == 200)
        for token in tokens {
            #expect(IssuedToken.isID(token.id))
            #expect(token.secret.utf8.count == 43)
            #expect(token.text.wholeMatch(of: /hgt_[a-z2-7]{16}\.[A-Za-z0-9_-]{43}/) != nil)
            #expect(!"\(token)".contains(token.secret) && !String(reflecting: token).contains(token.secret))
            var dumped = ""
            dump(token, to: &dumped)
            #expect(!dumped.contains(token.secret))
            #expect(IssuedToken(token.text)?.text == token.text)
        }
        for text in ["", "hgt_", "hgt_aaaaaaaaaaaaaaaa.x", "hgt_AAAAAAAAAAAAAAAA." + tokens[0].secret] {
            #expect(IssuedToken(text) == nil)
        }
    }

    @Test("The largest token that can be created can be read", arguments: TestStore.Driver.allCases)
    func largest(_ driver: TestStore.Driver) async throws {
        let store = try TestStore(driver)
        let label = String(repeating: "h", count: 62)
        let (token, _) = try await store.editor.create(
            name: String(repeating: "n", count: 63),
            services: (100..<356).map { "\($0)-" + String(repeating: "s", count: 58) + "*" },
            hosts: (100..<356).map { "*.\($0).\(label).\(label).\(label).\(String(repeating: "t", count: 55))" },
            maxAgents: 1_000_000
        )
        for _ in 0..<Credential.secretLimit { _ = try await store.editor.rotate(token.id) }
        #expect(try await store.editor.find(token.id).first?.hosts.count == 256)
    }

    @Test("More tokens than readers list are refused at their creation", arguments: TestStore.Driver.allCases)
    func count(_ driver: TestStore.Driver) async throws {
        let store = try TestStore(driver)
        let editor = CredentialEditor(store: store.store, keyring: store.keyring, limit: 2)
        let first = try await editor.create(name: "a").token
        _ = try await editor.revoke(first.id)
        _ = try await editor.create(name: "a")
        let error = await #expect(throws: CredentialError.self) { try await editor.create(name: "a") }
        #expect(error?.code == .invalid && error?.reason.contains("has 2 tokens") == true)
        #expect(try await editor.list().credentials.count == 2)
    }

    @Test("The document is sealed and holds the hash, never the secret", arguments: TestStore.Driver.allCases)
    func document(_ driver: TestStore.Driver) async throws {
        let store = try TestStore(driver)
        let (token, credential) = try await store.editor.create(
            name: "web",
            services: ["front", "api-*"],
            hosts: ["*.App.test"],
            maxAgents: 3
        )
        let bytes = try await store.store.read(try StoreKey("agents/\(token.id)")).bytes
        let text = String(decoding: bytes, as: UTF8.self)
        #expect(!text.contains(token.secret))
        let json = try #require(try JSONSerialization.jsonObject(with: Data(bytes)) as? [String: Any])
        #expect(json["format"] as? Int == 1)
        #expect(json["id"] as? String == token.id && json["name"] as? String == "web")
        #expect(json["services"] as? [String] == ["front", "api-*"])
        #expect(json["hosts"] as? [String] == ["*.app.test"])
        #expect(json["max_agents"] as? Int == 3)
        #expect(json["created"] as? String == "2027-01-15T08:00:00Z")
        let secrets = try #require(json["secrets"] as? [[String: Any]])
        #expect(secrets.count == 1 && (secrets[0]["sha256"] as? String)?.count == 64 && secrets[0].count == 1)
        #expect((json["mac"] as? String)?.hasPrefix(store.keyring.signing.id) == true)
        #expect(credential.maxAgents == 3)
        let listed = try await store.editor.list()
        #expect(listed.credentials.map(\.id) == [token.id] && listed.problems.isEmpty)
    }

    @Test("The hash is the SHA-256 of the secret's text")
    func hash() async throws {
        let store = try TestStore()
        let token = try await store.editor.create(name: "web").token
        let digest = try await ExternalProgram.run(["sha256sum"], input: token.secret).output.prefix(64)
        let stored = try await store.store.read(try StoreKey("agents/\(token.id)"))
        #expect(String(decoding: stored.bytes, as: UTF8.self).contains(digest))
    }

    @Test(
        "Invalid names and patterns are rejected with a remedy",
        arguments: ["", "Web", "a b", "a/b", "../x", "ä", String(repeating: "a", count: 64)]
    )
    func badNames(_ name: String) async throws {
        let editor = try TestStore().editor
        #expect(await credentialError { _ = try await editor.create(name: name) }?.code == .invalid)
        for host in ["*", "a..b", "http://x", "x:1", "*.*.x"] {
            let error = await credentialError { _ = try await editor.create(name: "web", hosts: [host]) }
            #expect(error?.code == .invalid)
        }
        #expect(await credentialError { _ = try await editor.create(name: "web", services: ["a b"]) } != nil)
        for count in [0, -1, 1_000_001] {
            let error = await credentialError { _ = try await editor.create(name: "web", maxAgents: count) }
            #expect(error?.code == .invalid)
        }
        #expect(try await editor.list().credentials.isEmpty)
    }

    @Test("The services and hosts that a token permits")
    func allows() async throws {
        let editor = try TestStore().editor
        let (_, credential) = try await editor.create(
            name: "web",
            services: ["front", "api-*"],
            hosts: ["one.test", "*.two.test"]
        )
        #expect(credential.allows(service: "front") && credential.allows(service: "api-1"))
        #expect(
            !credential.allows(service: "fronty") && !credential.allows(service: "api")
                && !credential.allows(service: "")
        )
        #expect(credential.allows(host: try HostPattern("one.test")))
        #expect(credential.allows(host: try HostPattern("x.two.test")))
        #expect(!credential.allows(host: try HostPattern("two.test")))
        #expect(!credential.allows(host: try HostPattern("*.one.test")))
        let everything = try await editor.create(name: "all").credential
        #expect(everything.allows(service: "anything"))
        #expect(!everything.allows(host: try HostPattern("one.test")))
    }

    @Test(
        "Revocation by id and by name preserves fields that this release does not know",
        arguments: TestStore.Driver.allCases
    )
    func revoke(_ driver: TestStore.Driver) async throws {
        let store = try TestStore(driver)
        let editor = store.editor
        let first = try await editor.create(name: "web").token
        let second = try await editor.create(name: "web").token
        let limits: JSONValue = .object(["rate": .integer(5), "x": .array([.number(1.5), .bool(true), .null])])
        try await store.edit(first.id) { $0["limits"] = limits }
        let error = await credentialError { _ = try await editor.revoke("web") }
        #expect(error?.code == .ambiguous)
        #expect(error?.reason.contains(first.id) == true && error?.reason.contains(second.id) == true)
        #expect(try await editor.revoke(first.id) == [first.id])
        let stored = try await store.store.read(try StoreKey("agents/\(first.id)"))
        let fields = try #require([String: JSONValue](json: stored.bytes))
        #expect(stored.version == 3 && fields["limits"] == limits && fields["revoked"]?.string != nil)
        #expect(try await editor.revoke(first.id).isEmpty)
        #expect(try await editor.revoke("web") == [second.id])
        #expect(try await editor.list().credentials.allSatisfy(\.isRevoked))
        let third = try await editor.create(name: "web").token
        let fourth = try await editor.create(name: "web").token
        #expect(Set(try await editor.revoke("web", all: true)) == [third.id, fourth.id])
        #expect(await credentialError { _ = try await editor.revoke("none") }?.code == .notFound)
    }

    @Test("A rotation adds a secret, expires the previous one after the grace period, and preserves unknown fields")
    func rotate() async throws {
        let store = try TestStore()
        let editor = store.editor
        let first = try await editor.create(name: "web").token
        try await store.edit(first.id) { fields in
            guard case .object(var secret)? = fields["secrets"]?.array?.first else { return }
            secret["note"] = .string("laptop")
            fields["secrets"] = .array([.object(secret)])
        }
        let (second, credential) = try await editor.rotate("web", grace: .seconds(3_600))
        #expect(second.id == first.id && second.secret != first.secret)
        #expect(credential.secrets.map { $0.notAfter?.description } == [nil, "2027-01-15T09:00:00Z"])
        let stored = try await store.store.read(try StoreKey("agents/\(first.id)"))
        let secrets = [String: JSONValue](json: stored.bytes)?["secrets"]?.array?.compactMap(\.object)
        #expect(secrets?.map { $0["note"] } == [nil, .string("laptop")])
        store.now = store.now + .seconds(1_800)
        // A later rotation does not extend the end of an older secret.
        let third = try await editor.rotate(first.id, grace: .seconds(86_400)).credential
        #expect(
            third.secrets.map { $0.notAfter?.description } == [nil, "2027-01-16T08:30:00Z", "2027-01-15T09:00:00Z"]
        )
        let now = try await editor.rotate(first.id, grace: .zero).credential
        #expect(now.secrets.count == 1)
        for _ in 0..<Credential.secretLimit + 4 { _ = try await editor.rotate(first.id, grace: .seconds(60)) }
        #expect(try await editor.find(first.id)[0].secrets.count == Credential.secretLimit)
        _ = try await editor.revoke(first.id)
        #expect(await credentialError { _ = try await editor.rotate("web") }?.code == .revoked)
        _ = try await editor.create(name: "two")
        _ = try await editor.create(name: "two")
        #expect(await credentialError { _ = try await editor.rotate("two") }?.code == .ambiguous)
    }

    @Test("The remedy for the rotation of a revoked token is the command that creates one with its properties")
    func rotateRevoked() async throws {
        let editor = try TestStore().editor
        let hosts = ["a.test", "*.b.test"]
        _ = try await editor.create(name: "web", services: ["api", "web-*"], hosts: hosts, maxAgents: 3)
        _ = try await editor.create(name: "all")
        for (name, options) in [
            ("web", " --service api --service 'web-*' --host a.test --host '*.b.test' --max-agents 3"), ("all", ""),
        ] {
            _ = try await editor.revoke(name)
            let error = await credentialError { _ = try await editor.rotate(name) }
            #expect(error?.reason.hasSuffix("create a new token with: hopgate token create \(name)\(options)") == true)
        }
    }

    @Test("Concurrent changes of one token by two operators are all applied", arguments: TestStore.Driver.allCases)
    func races(_ driver: TestStore.Driver) async throws {
        let store = try TestStore(driver)
        let token = try await store.editor.create(name: "web").token
        let (one, other) = (store.editor, store.editor)
        let issued = try await withThrowingTaskGroup(of: IssuedToken.self) { group in
            for editor in [one, other, one, other] {
                group.addTask { try await editor.rotate(token.id, grace: .seconds(600)).token }
            }
            return try await group.reduce(into: [IssuedToken]()) { $0.append($1) }
        }
        let cache = store.cache()
        try await cache.load()
        #expect(issued.count == 4)
        for token in issued + [token] { #expect(try cache.verify(token).isGranted) }
        async let revoked = one.revoke(token.id)
        _ = await credentialError { _ = try await other.rotate(token.id) }
        _ = try await revoked
        #expect(try await one.find(token.id)[0].isRevoked)
    }

    @Test("A document that cannot be read is listed as a problem, and revoking it removes it")
    func unreadable() async throws {
        let store = try TestStore(.volume)
        let editor = store.editor
        let good = try await editor.create(name: "good").token
        let bad = try await editor.create(name: "bad").token
        try await store.plant(Array(#"{"format":1}"#.utf8), id: bad.id)
        let (credentials, problems) = try await editor.list()
        #expect(credentials.map(\.id) == [good.id])
        #expect(problems.count == 1 && problems.first?.reason.contains(bad.id) == true)
        #expect(await credentialError { _ = try await editor.rotate(bad.id) } != nil)
        #expect(try await editor.revoke(bad.id) == [bad.id])
        #expect(try await editor.list().problems.isEmpty)
    }

    @Test("While a document cannot be read, credentials are found by id, not by a name, which may be its name")
    func namesBesideUnreadable() async throws {
        let store = try TestStore(.volume)
        let editor = store.editor
        let good = try await editor.create(name: "web").token
        let bad = try await editor.create(name: "web").token
        try await store.plant(Array(#"{"format":1}"#.utf8), id: bad.id)
        for name in ["web", "other"] {
            for error in [
                await credentialError { _ = try await editor.find(name) },
                await credentialError { _ = try await editor.rotate(name) },
                await credentialError { _ = try await editor.revoke(name, all: true) },
            ] {
                #expect(error?.code != .notFound && error?.reason.contains(bad.id) == true, "\(name)")
                #expect(error?.reason.contains("name tokens by their id") == true, "\(name)")
            }
        }
        #expect(try await editor.find(good.id).map(\.isRevoked) == [false])
        #expect(try await editor.revoke(good.id) == [good.id])
        #expect(try await editor.revoke(bad.id) == [bad.id])
        #expect(try await editor.find("web").map(\.id) == [good.id])
    }

    @Test("Secrets are compared over their whole length")
    func constantTime() {
        let hash = [UInt8](repeating: 7, count: 32)
        #expect(constantTimeEquals(hash, hash))
        for index in 0..<32 {
            var other = hash
            other[index] ^= 1
            #expect(!constantTimeEquals(hash, other))
        }
        #expect(!constantTimeEquals(hash, Array(hash.dropLast())))
        #expect(constantTimeEquals([], []))
    }
}
