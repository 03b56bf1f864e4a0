import Certificates
import Cluster
import Formats
import Foundation
import Gateway
import HopProtocol
import Settings
import Store
import Testing

@Suite("Making tokens and join files")
struct EnrollerTests {
    private let folder: String
    private let path: String

    init() throws {
        folder = NSTemporaryDirectory() + "hopgate-enrol-\(UUID().uuidString)"
        path = folder + "/join"
        try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
    }

    private func enrolment(_ gateway: String = "gw.test", port: Int = 443) async throws -> Enrolment {
        var configuration = GatewayConfiguration()
        configuration.certificates = [.init(certificate: "/cert.pem", key: "/key.pem")]
        return try await Enrolment(configuration, gateways: [HostPort(host: gateway, port: port)], store: MemoryStore())
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

    private func remove() { try? FileManager.default.removeItem(atPath: folder) }

    @Test("A token that is there is kept, and so is the file that has it")
    func kept() async throws {
        defer { remove() }
        let store = try TestStore()
        let enroller = try await enroller(store, enrolment(), file: path)
        guard
            case .made(let token, let credential) = try await enroller.ensure(.init(name: "demo"), grace: .seconds(60))
        else {
            Issue.record("no token was made")
            return
        }
        #expect(join?.token == token.text && join?.gateways == ["gw.test:443"] && join?.pin == nil)
        let status = try FileManager.default.attributesOfItem(atPath: path)
        #expect((status[.posixPermissions] as? NSNumber)?.intValue == 0o600)
        let before = FileManager.default.contents(atPath: path)
        for _ in 0..<3 {
            guard case .kept(let kept) = try await enroller.ensure(.init(name: "demo"), grace: .seconds(60)) else {
                Issue.record("it was not kept")
                return
            }
            #expect(kept.id == credential.id && FileManager.default.contents(atPath: path) == before)
        }
        #expect(try FileManager.default.contentsOfDirectory(atPath: folder) == ["join"])
        #expect(try await store.editor.list().credentials.count == 1)
    }

    @Test("A file that is missing, or whose secret was replaced or revoked, gets one that is good")
    func renewed() async throws {
        defer { remove() }
        let store = try TestStore()
        let enroller = try await enroller(store, enrolment(), file: path)
        _ = try await enroller.ensure(.init(name: "demo"), grace: .seconds(60))
        let first = try #require(join)
        try FileManager.default.removeItem(atPath: path)
        for round in 0..<3 {
            if round == 1 { _ = try await store.editor.rotate("demo", grace: .seconds(60)) }
            if round == 2 { try Data("cut hgj_".utf8).write(to: URL(fileURLWithPath: path)) }
            guard case .renewed(let token, _) = try await enroller.ensure(.init(name: "demo"), grace: .seconds(60))
            else {
                Issue.record("it was not renewed in round \(round)")
                return
            }
            #expect(join?.token == token.text && join?.tokenID == first.tokenID)
        }
        let known = store.known()
        try await known.load()
        #expect(try known.verify(try #require(IssuedToken(first.token))).isGranted)
        _ = try await store.editor.revoke("demo")
        guard case .made(let token, _) = try await enroller.ensure(.init(name: "demo"), grace: .zero) else {
            Issue.record("no token was made in the place of the revoked one")
            return
        }
        #expect(join?.token == token.text && token.id != first.tokenID)
    }

    @Test("A gateway that is reached elsewhere now is written into the file, with the same token")
    func rewritten() async throws {
        defer { remove() }
        let store = try TestStore()
        _ = try await enroller(store, enrolment(), file: path).ensure(.init(name: "demo"), grace: .zero)
        let before = try #require(join)
        let moved = try await enroller(store, enrolment("new.test"), file: path)
        guard case .rewritten = try await moved.ensure(.init(name: "demo"), grace: .zero) else {
            Issue.record("it was not rewritten")
            return
        }
        #expect(join?.gateways == ["new.test:443"] && join?.token == before.token)
    }

    @Test("Of many that ask for one name at once one makes it")
    func races() async throws {
        defer { remove() }
        let store = try TestStore(.volume)
        let enroller = try await enroller(store, enrolment(), file: nil)
        let made = try await withThrowingTaskGroup(of: Bool.self) { group in
            for _ in 0..<6 {
                group.addTask {
                    if case .made = try await enroller.ensure(.init(name: "demo"), grace: .zero) { true } else { false }
                }
            }
            return try await group.reduce(0) { $0 + ($1 ? 1 : 0) }
        }
        #expect(made == 1)
        #expect(try await store.editor.list().credentials.count == 1)
    }

    @Test("Beside a token that cannot be read no second one of a name is made, and a good one is kept")
    func unreadable() async throws {
        defer { remove() }
        let store = try TestStore(.volume)
        let bad = try await store.editor.create(name: "demo").token
        try await store.plant(Array(#"{"format":1}"#.utf8), id: bad.id)
        let enroller = try await enroller(store, enrolment(), file: path)
        let error = await credentialError { _ = try await enroller.ensure(.init(name: "demo"), grace: .zero) }
        #expect(error?.reason.contains(bad.id) == true)
        #expect(try await store.editor.list().credentials.isEmpty && join == nil)
        let other = try await store.editor.create(name: "other").credential
        let without = try await self.enroller(store, enrolment(), file: nil)
        guard case .kept(let kept) = try await without.ensure(.init(name: "other"), grace: .zero) else {
            Issue.record("a good token was not kept")
            return
        }
        #expect(kept.id == other.id)
    }

    @Test("Several good tokens of the name are told rather than one of them changed")
    func ambiguous() async throws {
        defer { remove() }
        let store = try TestStore()
        for _ in 0..<2 { _ = try await store.editor.create(name: "demo") }
        let enroller = try await enroller(store, enrolment(), file: path)
        let error = await credentialError { _ = try await enroller.ensure(.init(name: "demo"), grace: .zero) }
        #expect(error?.code == .ambiguous)
        let without = try await self.enroller(store, enrolment(), file: nil)
        _ = try await without.ensure(.init(name: "demo"), grace: .zero)
    }

    @Test(
        "A file that cannot be is refused before a token is made",
        arguments: ["link", "folder", "nowhere", "no address"]
    )
    func unusable(_ what: String) async throws {
        defer { remove() }
        let store = try TestStore()
        let target = what == "nowhere" ? folder + "/none/join" : path
        let enrolment =
            what == "no address" ? try await enrolment(at: ListenAddress(host: "::", port: 0)) : try await enrolment()
        switch what {
        case "link": try FileManager.default.createSymbolicLink(atPath: path, withDestinationPath: folder + "/x")
        case "folder": try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: false)
        default: break
        }
        let error = await credentialError {
            _ = try await enroller(store, enrolment, file: target).create(.init(name: "demo"))
        }
        #expect(error?.code == .joinFile && error?.reason.contains(target) == true)
        #expect(try await store.editor.list().credentials.isEmpty)
    }

    @Test("Addresses come from the operator, the configuration, the listener, and last this machine")
    func addresses() async throws {
        defer { remove() }
        let store = MemoryStore()
        let local = try await enrolment(at: ListenAddress(host: "0.0.0.0", port: 8443), in: store)
        #expect(local.gateways.map(\.description) == ["127.0.0.1:8443"] && local.pin?.count == 32)
        #expect(local.notes.count == 1 && local.notes[0].contains("tunnel_addresses"))
        let six = try await enrolment(at: ListenAddress(host: "::", port: 4433))
        #expect(six.gateways.map(\.description) == ["[::1]:4433"])
        let listen = ListenAddress(host: "192.0.2.1", port: 4433)
        let listening = try await enrolment(at: listen)
        #expect(listening.gateways.map(\.description) == ["192.0.2.1:4433"] && listening.notes.isEmpty)
        let configured = [HostPort(host: "gw.test", port: 443)]
        #expect(try await enrolment(at: listen, configured: configured).gateways == configured)
        let named = [HostPort(host: "x.test", port: 1)]
        let explicit = try await enrolment(at: listen, configured: configured, named: named, in: store)
        #expect(explicit.gateways == named && explicit.pin == local.pin)
        let many = (1...17).map { HostPort(host: "x.test", port: $0) }
        await #expect(throws: CredentialError.self) { try await enrolment(at: listen, named: many) }
    }

    private func enrolment(
        at listen: ListenAddress,
        configured: [HostPort] = [],
        named: [HostPort] = [],
        in store: any Store = MemoryStore()
    ) async throws -> Enrolment {
        var configuration = GatewayConfiguration()
        configuration.store.path = folder + "/data"
        configuration.dtlsListen = listen
        configuration.tunnelAddresses = configured
        return try await Enrolment(configuration, gateways: named, store: store)
    }

    @Test("The command offers what the token allows")
    func command() async throws {
        defer { remove() }
        let editor = try TestStore().editor
        let all = try await editor.create(name: "a").credential
        #expect(Enrolment.command(for: all, join: "--join x") == "hopagent http 3000 --join x")
        let web = try await editor.create(name: "a", services: ["web", "api"], hosts: ["a.test", "*.b.test"]).credential
        #expect(Enrolment.command(for: web, join: "J") == "hopagent http 3000 --service web --host a.test J")
    }
}
