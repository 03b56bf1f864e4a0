import Cluster
import Credentials
import Formats
import Foundation
import HopProtocol
import Settings
import Store
import Synchronization
import TestSupport
import Testing

@Suite("Enrolment of agents: tokens and join files")
struct EnrollerTests {
    private let folder = ScratchFolder()
    private var path: String { folder.file("join") }

    private func enrolment(_ gateway: String = "gw.test") -> Enrolment {
        Enrolment(gateways: [HostPort(host: gateway, port: 443)], pin: nil, notes: [])
    }

    private func enroller(_ store: TestStore, _ enrolment: Enrolment, file: String?) throws -> Enroller {
        let clock: @Sendable () -> UnixTime = { store.now }
        return try Enroller(
            editor: store.editor,
            store: store.store,
            enrolment: enrolment,
            file: file.map { JoinFile(path: $0) },
            clock: clock
        )
    }

    private var join: JoinString? {
        FileManager.default.contents(atPath: path).flatMap { try? JoinString(String(decoding: $0, as: UTF8.self)) }
    }

    @Test("The properties of an existing token that are not as requested are named, in any order and notation")
    func differences() async throws {
        let store = try TestStore()
        let (_, credential) = try await store.editor.create(name: "demo", services: ["web", "api"], hosts: ["a.test"])
        let same = Enroller.Request(name: "demo", services: ["api", "web"], hosts: ["A.test"])
        #expect(same.differences(from: credential).isEmpty)
        let other = Enroller.Request(name: "demo", services: ["web"], maxAgents: 3)
        #expect(
            other.differences(from: credential) == [
                "services web, api, not web", "hosts a.test, not none", "maximum of agents none, not 3",
            ]
        )
    }

    @Test("An existing token is kept, and so is the file that has it")
    func kept() async throws {
        let store = try TestStore()
        let enroller = try enroller(store, enrolment(), file: path)
        guard
            case .created(let token, let credential) = try await enroller.ensure(
                .init(name: "demo"),
                grace: .seconds(60)
            )
        else {
            Issue.record("no token was created")
            return
        }
        #expect(join?.token == token.text && join?.gateways == ["gw.test:443"] && join?.pin == nil)
        #expect(folder.mode("join") == 0o600)
        let before = FileManager.default.contents(atPath: path)
        for _ in 0..<3 {
            guard case .kept(let kept) = try await enroller.ensure(.init(name: "demo"), grace: .seconds(60)) else {
                Issue.record("the token was not kept")
                return
            }
            #expect(kept.id == credential.id && FileManager.default.contents(atPath: path) == before)
        }
        #expect(folder.names() == ["join"])
        #expect(try await store.editor.list().credentials.count == 1)
    }

    @Test("A file that is missing, or whose secret was replaced or revoked, gets a valid one")
    func renewed() async throws {
        let store = try TestStore()
        let enroller = try enroller(store, enrolment(), file: path)
        _ = try await enroller.ensure(.init(name: "demo"), grace: .seconds(60))
        let first = try #require(join)
        try FileManager.default.removeItem(atPath: path)
        for round in 0..<3 {
            if round == 1 { _ = try await store.editor.rotate("demo", grace: .seconds(60)) }
            if round == 2 { folder.write("join", "\n") }
            let outcome = try await enroller.ensure(.init(name: "demo"), grace: .seconds(60))
            guard case .renewed(let token, _, let wasReplaced) = outcome else {
                Issue.record("the token was not renewed in round \(round)")
                return
            }
            #expect(wasReplaced == (round == 1))
            #expect(join?.token == token.text && join?.tokenID == first.tokenID)
        }
        let cache = store.cache()
        try await cache.load()
        #expect(try cache.verify(try #require(IssuedToken(first.token))).isGranted)
        _ = try await store.editor.revoke("demo")
        guard case .created(let token, _) = try await enroller.ensure(.init(name: "demo"), grace: .zero) else {
            Issue.record("no token was created in place of the revoked one")
            return
        }
        #expect(join?.token == token.text && token.id != first.tokenID)
    }

    @Test("A file with an outdated address or pin is rewritten with the same token, and the change is named")
    func rewritten() async throws {
        let store = try TestStore()
        _ = try await enroller(store, enrolment(), file: path).ensure(.init(name: "demo"), grace: .zero)
        let before = try #require(join)
        let pinned = Enrolment(gateways: enrolment("new.test").gateways, pin: Array(repeating: 7, count: 32), notes: [])
        for (enrolment, expected) in [(enrolment("new.test"), ["addresses"]), (pinned, ["pin"])] {
            let enroller = try enroller(store, enrolment, file: path)
            guard case .rewritten(_, let changes) = try await enroller.ensure(.init(name: "demo"), grace: .zero) else {
                Issue.record("the file was not rewritten")
                return
            }
            #expect(changes == expected && join?.pin == enrolment.pin)
            #expect(join?.gateways == ["new.test:443"] && join?.token == before.token)
        }
    }

    @Test("Of several concurrent calls for one name one creates the token")
    func races() async throws {
        let store = try TestStore(.volume)
        let enroller = try enroller(store, enrolment(), file: nil)
        let created = try await withThrowingTaskGroup(of: Bool.self) { group in
            for _ in 0..<6 {
                group.addTask {
                    if case .created = try await enroller.ensure(.init(name: "demo"), grace: .zero) {
                        true
                    } else {
                        false
                    }
                }
            }
            return try await group.reduce(0) { $0 + ($1 ? 1 : 0) }
        }
        #expect(created == 1)
        #expect(try await store.editor.list().credentials.count == 1)
    }

    @Test("A wait for another call is reported")
    func wait() async throws {
        let store = try TestStore()
        let isReported = Mutex(false)
        let enroller = try Enroller(
            editor: store.editor,
            store: store.store,
            enrolment: enrolment(),
            file: nil,
            onWait: { _ in
                isReported.withLock { $0 = true }
            }
        )
        let lease = try await store.store.lease("tokens", LeaseOptions())
        async let waiting = enroller.ensure(.init(name: "demo"), grace: .zero)
        try await eventually("the wait is reported") { isReported.withLock { $0 } }
        await lease.release()
        guard case .created = try await waiting else {
            Issue.record("no token was created")
            return
        }
    }

    /// Creates an enroller whose lease another process takes over during a call.
    ///
    /// - Parameter isWritten: Whether that happens after the token is written, or between the check of the lease and
    ///   the write.
    private func overtaken(_ store: TestStore, isWritten: Bool) throws -> Enroller {
        let volume = Volume(files: try PosixFileSystem(path: try #require(store.path), creating: false))
        @Sendable func acquireLease() {
            let candidate = LeaseCandidate(volume: volume, lease: "tokens", options: LeaseOptions(), name: "other")
            _ = try? candidate.acquire(2)
        }
        if isWritten { store.store.onOperation { operation, _ in if operation == .write { acquireLease() } } }
        // The clock is read after the token was read, and before it is written.
        let editor = CredentialEditor(store: store.store, keyring: store.keyring) {
            if !isWritten { acquireLease() }
            return store.now
        }
        let file = JoinFile(path: path)
        return try Enroller(editor: editor, store: store.store, enrolment: enrolment(), file: file) { store.now }
    }

    @Test(
        "A call whose lease is taken over while it creates its token leaves no second one of the name",
        arguments: [false, true]
    )
    func overtakenCreation(_ isWritten: Bool) async throws {
        let store = try TestStore(.volume)
        let enroller = try overtaken(store, isWritten: isWritten)
        let error = await credentialError { _ = try await enroller.ensure(.init(name: "demo"), grace: .zero) }
        #expect(error?.code == .store(.fenced) && join == nil)
        #expect(try await store.editor.list().credentials.allSatisfy(\.isRevoked))
    }

    @Test("A call whose lease is taken over neither rotates the token nor replaces the file", arguments: [false, true])
    func overtakenRotation(_ isWritten: Bool) async throws {
        let store = try TestStore(.volume)
        let before = try await store.editor.create(name: "demo").credential
        let enroller = try overtaken(store, isWritten: isWritten)
        let error = await credentialError { _ = try await enroller.ensure(.init(name: "demo"), grace: .seconds(60)) }
        #expect(error?.code == .store(.fenced) && join == nil)
        // What was written before the takeover was written under the lease.
        #expect(try await store.editor.find("demo")[0].secrets.count == (isWritten ? 2 : before.secrets.count))
    }

    @Test("After the leases were lost, a token that was written under a higher epoch can be rotated")
    func lostLeases() async throws {
        let store = try TestStore(.volume)
        let enroller = try enroller(store, enrolment(), file: path)
        for _ in 0..<3 {
            _ = try await enroller.ensure(.init(name: "demo"), grace: .seconds(60))
            try FileManager.default.removeItem(atPath: path)
        }
        let volume = try #require(store.path)
        try FileManager.default.removeItem(atPath: "\(volume)/locks")
        guard case .renewed = try await enroller.ensure(.init(name: "demo"), grace: .seconds(60)) else {
            Issue.record("the token was not rotated")
            return
        }
        #expect(join != nil)
    }

    @Test("The epoch in a file that was put there by hand does not count")
    func plantedEpoch() async throws {
        let store = try TestStore(.volume)
        let enroller = try enroller(store, enrolment(), file: path)
        _ = try await enroller.ensure(.init(name: "demo"), grace: .seconds(60))
        let volume = try #require(store.path)
        let folder = "\(volume)/agents/aaaaaaaaaaaaaaaa"
        let attributes = [FileAttributeKey.posixPermissions: 0o700]
        try FileManager.default.createDirectory(
            atPath: folder,
            withIntermediateDirectories: false,
            attributes: attributes
        )
        let planted = "HGV2 value 9007199254740991 \(String(repeating: "0", count: 32))\n{}"
        #expect(
            FileManager.default.createFile(
                atPath: "\(folder)/1.json",
                contents: Data(planted.utf8),
                attributes: [.posixPermissions: 0o600]
            )
        )
        guard case .kept = try await enroller.ensure(.init(name: "demo"), grace: .seconds(60)) else {
            Issue.record("the token was not kept")
            return
        }
        let epochs = try FileManager.default.contentsOfDirectory(atPath: "\(volume)/locks/tokens").compactMap {
            Int($0)
        }
        #expect(epochs.max().map { $0 < 10 } == true)
    }

    @Test("While a token cannot be read, no token is created, and a valid one is kept")
    func unreadable() async throws {
        let store = try TestStore(.volume)
        let bad = try await store.editor.create(name: "demo").token
        try await store.plant(Array(#"{"format":1}"#.utf8), id: bad.id)
        let enroller = try enroller(store, enrolment(), file: path)
        let error = await credentialError { _ = try await enroller.ensure(.init(name: "demo"), grace: .zero) }
        #expect(error?.reason.contains(bad.id) == true)
        #expect(try await store.editor.list().credentials.isEmpty && join == nil)
        let other = try await store.editor.create(name: "other").credential
        let without = try self.enroller(store, enrolment(), file: nil)
        guard case .kept(let kept) = try await without.ensure(.init(name: "other"), grace: .zero) else {
            Issue.record("a valid token was not kept")
            return
        }
        #expect(kept.id == other.id)
    }

    @Test("Several valid tokens of the name are an error, and none is changed")
    func ambiguous() async throws {
        let store = try TestStore()
        for _ in 0..<2 { _ = try await store.editor.create(name: "demo") }
        let enroller = try enroller(store, enrolment(), file: path)
        let error = await credentialError { _ = try await enroller.ensure(.init(name: "demo"), grace: .zero) }
        #expect(error?.code == .ambiguous)
        let without = try self.enroller(store, enrolment(), file: nil)
        _ = try await without.ensure(.init(name: "demo"), grace: .zero)
    }

    @Test(
        "An unusable file is rejected before a token is created",
        arguments: ["link", "folder", "nowhere", "no address"]
    )
    func unusable(_ problem: String) async throws {
        let store = try TestStore()
        let target = problem == "nowhere" ? folder.file("none/join") : path
        let enrolment = problem == "no address" ? Enrolment(gateways: [], pin: nil, notes: ["no address"]) : enrolment()
        switch problem {
        case "link": folder.link("join", to: "x")
        case "folder": try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: false)
        default: break
        }
        let error = await credentialError {
            _ = try await enroller(store, enrolment, file: target).create(.init(name: "demo"))
        }
        #expect(error?.code == .joinFile && error?.reason.contains(target) == true)
        #expect(try await store.editor.list().credentials.isEmpty)
    }

    @Test(
        "A file with anything else than a join string is refused, and nothing is changed",
        arguments: ["name: demo\n", "hgj_eyJ", "hgt_abcdefghijklmnop.s", String(repeating: "x", count: 9_000)]
    )
    func otherContents(_ text: String) async throws {
        let store = try TestStore()
        folder.write("join", text)
        let enroller = try enroller(store, enrolment(), file: path)
        for hasToken in [false, true] {
            if hasToken { _ = try await store.editor.create(name: "demo") }
            let before = try await store.editor.list().credentials.map(\.secrets)
            for ensures in [false, true] {
                let error = await credentialError {
                    _ =
                        try await ensures
                        ? enroller.ensure(.init(name: "demo"), grace: .zero) : enroller.create(.init(name: "demo"))
                }
                #expect(error?.code == .joinFile)
                let reason = folder.relative(error?.reason ?? "")
                #expect(reason.hasPrefix("join: is not empty and holds no join string (it "))
                #expect(reason.hasSuffix("; name another file, or delete this one first"))
            }
            #expect(try await store.editor.list().credentials.map(\.secrets) == before)
        }
        #expect(folder.read("join") == Array(text.utf8))
    }

    @Test("A file with the join string of another valid token is refused, one of a revoked or unknown token replaced")
    func otherToken() async throws {
        let store = try TestStore()
        let enroller = try enroller(store, enrolment(), file: path)
        guard case .created(let other, _) = try await enroller.create(.init(name: "other")) else {
            Issue.record("no token was created")
            return
        }
        let contents = folder.read("join")
        func problem(ensuring: Bool) async -> CredentialError? {
            await credentialError {
                _ =
                    try await ensuring
                    ? enroller.ensure(.init(name: "demo"), grace: .zero) : enroller.create(.init(name: "demo"))
            }
        }
        let expected = """
            join holds the join string of token \(other.id) ("other"): name another file, or delete this one first
            """
        for ensuring in [false, true] {
            let error = await problem(ensuring: ensuring)
            #expect(error?.code == .joinFile && folder.relative(error?.reason ?? "") == expected)
        }
        #expect(try await store.editor.list().credentials.map(\.name) == ["other"])
        // A token of the requested name is not rotated either.
        let demo = try await store.editor.create(name: "demo").credential
        #expect(await problem(ensuring: true)?.code == .joinFile)
        #expect(try await store.editor.find("demo").map(\.secrets) == [demo.secrets])
        #expect(folder.read("join") == contents)
        _ = try await store.editor.revoke("other")
        #expect(await problem(ensuring: true) == nil && join?.tokenID == demo.id)
        let unknown = try #require(enrolment().joinString(for: IssuedToken()))
        folder.write("join", unknown)
        #expect(await problem(ensuring: false) == nil && join?.text != unknown)
    }

    @Test("A file that cannot be written changes neither the store nor the folder")
    func unwritable() async throws {
        let store = try TestStore()
        // A file may have this name, but the temporary file beside it not.
        let target = folder.file(String(repeating: "x", count: 250))
        let enroller = try enroller(store, enrolment(), file: target)
        let creation = await credentialError { _ = try await enroller.create(.init(name: "demo")) }
        #expect(creation?.code == .joinFile && creation?.reason.contains(target) == true)
        #expect(try await store.editor.list().credentials.isEmpty)
        let before = try await store.editor.create(name: "demo").credential
        let rotation = await credentialError { _ = try await enroller.ensure(.init(name: "demo"), grace: .zero) }
        #expect(rotation?.code == .joinFile)
        #expect(try await store.editor.find("demo").map(\.secrets) == [before.secrets])
        #expect(folder.names().isEmpty)
    }

    @Test("A new token is revoked if its file cannot be written any more", arguments: [false, true])
    func lostCreation(_ ensures: Bool) async throws {
        let store = try TestStore()
        let inner = folder.file("my files")
        try FileManager.default.createDirectory(atPath: inner, withIntermediateDirectories: false)
        let enroller = try enroller(store, enrolment(), file: "\(inner)/join")
        store.store.onOperation { operation, _ in
            if operation == .write { try? FileManager.default.removeItem(atPath: inner) }
        }
        let error = await credentialError {
            _ =
                try await ensures
                ? enroller.ensure(.init(name: "demo"), grace: .zero) : enroller.create(.init(name: "demo"))
        }
        let credential = try #require(try await store.editor.list().credentials.first)
        #expect(error?.code == .joinFile && credential.isRevoked)
        let reason = error?.reason ?? ""
        #expect(reason.hasSuffix("; token \(credential.id) was revoked, because its secret is lost"), "\(reason)")
    }

    @Test("The error about a file that cannot be written any more after a rotation has the command to repeat")
    func lostRotation() async throws {
        let store = try TestStore()
        _ = try await store.editor.create(name: "demo")
        let inner = folder.file("my files")
        try FileManager.default.createDirectory(atPath: inner, withIntermediateDirectories: false)
        let enroller = try enroller(store, enrolment(), file: "\(inner)/join")
        store.store.onOperation { operation, _ in
            if operation == .write { try? FileManager.default.removeItem(atPath: inner) }
        }
        let error = await credentialError { _ = try await enroller.ensure(.init(name: "demo"), grace: .seconds(60)) }
        let reason = error?.reason ?? ""
        let command = "hopgate token create demo --if-absent --join-file '\(inner)/join'"
        #expect(reason.hasSuffix("is lost. Once the file can be written, run: \(command)"), "\(reason)")
        #expect(try await store.editor.find("demo").allSatisfy { !$0.isRevoked })
    }

    @Test("The command offers a service and the hosts that the token permits, quoted for a shell")
    func command() async throws {
        let editor = try TestStore().editor
        let all = try await editor.create(name: "a").credential
        #expect(Enrolment.command(for: all, join: ["--join", "x"]) == "hopagent http 3000 --join x")
        let web = try await editor.create(name: "a", services: ["web", "api"], hosts: ["a.test", "*.b.test"]).credential
        #expect(
            Enrolment.command(for: web, join: ["--join-file", "/my files/it's"])
                == #"hopagent http 3000 --service web --host a.test --host '*.b.test' --join-file '/my files/it'\''s'"#
        )
        let prefix = try await editor.create(name: "a", services: ["web-*", "api"]).credential
        #expect(
            Enrolment.command(for: prefix, join: ["--join", "x"]) == "hopagent http 3000 --service web-http --join x"
        )
    }
}
