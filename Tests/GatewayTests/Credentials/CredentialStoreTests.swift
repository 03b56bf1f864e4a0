import Certificates
import Foundation
import Gateway
import Logging
import NIOCore
import Synchronization
import Testing

@Suite("The store of credentials")
struct CredentialStoreTests {
    let data = DataFolder()
    let log = LogLines()
    let now = NIODeadline.uptimeNanoseconds(1_000_000_000_000)

    private func store() throws -> CredentialStore {
        try CredentialStore(dataDirectory: data.path, logger: log.logger)
    }

    private func verify(_ store: CredentialStore, _ id: String, _ secret: String, host: Int = 1) -> CredentialVerdict {
        let address = try! SocketAddress(ipAddress: "192.0.2.\(host)", port: 7)
        return store.verify(id: id, secret: secret, from: address, now: now)
    }

    @Test("A token lives from its creation to its revocation")
    func life() throws {
        let store = try store()
        let token = try data.folder.create(name: "web").token
        #expect(verify(store, token.id, token.secret).refusal == .unknown)
        #expect(store.reload() == CredentialChanges(added: [token.id]))
        guard case .granted(let credential) = verify(store, token.id, token.secret) else {
            Issue.record("a good token was refused")
            return
        }
        #expect(credential.name == "web")
        #expect(store.credential(id: token.id)?.name == "web")
        #expect(store.reload().isEmpty)
        _ = try data.folder.revoke(idOrName: "web")
        #expect(store.reload() == CredentialChanges(ended: [token.id]))
        #expect(verify(store, token.id, token.secret).refusal == .revoked)
        #expect(verify(store, token.id, "wrong").refusal == .wrongSecret)
        #expect(store.credential(id: token.id) == nil)
        #expect(store.statistics.good == 0)
    }

    @Test("Unknown, wrong and revoked differ in nothing but the reason that we log")
    func sameOutside() throws {
        let good = try data.folder.create(name: "good").token
        let bad = try data.folder.create(name: "bad").token
        _ = try data.folder.revoke(idOrName: bad.id)
        let store = try store()
        let verdicts = [
            verify(store, IssuedToken().id, good.secret, host: 1),
            verify(store, good.id, bad.secret, host: 2),
            verify(store, bad.id, bad.secret, host: 3),
        ]
        #expect(verdicts.map(\.refusal) == [.unknown, .wrongSecret, .revoked])
        #expect(verdicts.allSatisfy { $0.wait == nil })
    }

    @Test("Hostile ids and secrets are refused and never reach the file system")
    func hostile() throws {
        let token = try data.folder.create(name: "web").token
        let store = try store()
        let long = String(repeating: "a", count: 1_000_000)
        for id in ["", "../../etc/passwd", "\u{0}", long, token.id.uppercased(), token.id + "a"] {
            #expect(verify(store, id, token.secret).refusal == .unknown)
        }
        for secret in ["", "\u{0}", long, token.secret + "\u{0}", String(token.secret.dropLast())] {
            #expect(verify(store, token.id, secret).refusal == .wrongSecret)
        }
    }

    @Test("Creation and revocation are seen in less than 2.5 s, and sessions are told", .timeLimit(.minutes(1)))
    func watching() async throws {
        let store = try store()
        let ended = Mutex<[String]>([])
        store.watch { changes in ended.withLock { $0 += changes.ended } }
        defer { store.stop() }
        let created = ContinuousClock.now
        let token = try data.folder.create(name: "web").token
        #expect(await becomesTrue { store.credential(id: token.id) != nil })
        #expect(ContinuousClock.now - created < .milliseconds(2_500))
        let revoked = ContinuousClock.now
        _ = try data.folder.revoke(idOrName: token.id)
        #expect(await becomesTrue { ended.withLock { $0 } == [token.id] })
        #expect(ContinuousClock.now - revoked < .milliseconds(2_500))
        #expect(store.credential(id: token.id) == nil)
    }

    @Test("A removed file ends its sessions; a removed folder changes nothing")
    func removed() throws {
        let first = try data.folder.create(name: "one").token
        let second = try data.folder.create(name: "two").token
        let store = try store()
        try FileManager.default.removeItem(atPath: data.file(first.id))
        #expect(store.reload() == CredentialChanges(ended: [first.id]))
        try FileManager.default.moveItem(atPath: data.path + "/agents", toPath: data.path + "/gone")
        #expect(store.reload().isEmpty)
        #expect(store.reload().isEmpty)
        #expect(verify(store, second.id, second.secret).isGranted)
        #expect(store.statistics.failedReloads == 2)
        #expect(log.all.count == 1)
        try FileManager.default.moveItem(atPath: data.path + "/gone", toPath: data.path + "/agents")
        #expect(store.reload().isEmpty)
    }

    @Test("A bad file keeps the last good view, is counted, and is logged once")
    func badFile() throws {
        let token = try data.folder.create(name: "web").token
        let good = data.text(token.id)
        let store = try store()
        let bad: [String] = [
            "", "{", "[]", "null", "{}", good.replacingOccurrences(of: "\"format\" : 1", with: "\"format\" : 2"),
            good.replacingOccurrences(of: token.id, with: IssuedToken().id),
            good.replacingOccurrences(of: "\"web\"", with: "\"We b\""),
            good.replacingOccurrences(of: "\"*\"", with: "7"), good.replacingOccurrences(of: "\"*\"", with: "\"a b\""),
            good.replacingOccurrences(of: "\"secret_sha256\" : \"", with: "\"secret_sha256\" : \"0"),
            String(repeating: "[", count: 60_000), String(repeating: " ", count: 70_000),
        ]
        for (index, text) in bad.enumerated() {
            #expect(text != good)
            data.write(token.id, text)
            #expect(store.reload().isEmpty)
            #expect(store.reload().isEmpty)
            #expect(store.statistics.badFiles == 1)
            #expect(verify(store, token.id, token.secret).isGranted, "\(index)")
        }
        #expect(log.all.count <= bad.count && log.all.count > 3)
        #expect(!log.all.contains { $0.contains(token.secret) })
        data.write(token.id, good)
        #expect(store.reload().isEmpty == false)
        #expect(store.statistics.badFiles == 0)
        // The same bad bytes again and again are one line.
        let before = log.all.count
        data.write(token.id, "{")
        for _ in 0..<5 { store.reload() }
        #expect(log.all.count == before + 1)
    }

    @Test("What a person edits counts: services, hosts, and any sign of revocation")
    func handEdited() throws {
        let token = try data.folder.create(name: "web").token
        let store = try store()
        data.edit(token.id, "\"*\"", "\"front\"")
        #expect(store.reload() == CredentialChanges(changed: [token.id]))
        #expect(store.credential(id: token.id)?.allows(service: "api") == false)
        for sign in ["true", "\"yes\"", "1", "{}"] {
            data.edit(token.id, "\"revoked\" : null", "\"revoked\" : \(sign)")
            #expect(store.reload() == CredentialChanges(ended: [token.id]), "\(sign)")
            data.edit(token.id, "\"revoked\" : \(sign)", "\"revoked\" : null")
            #expect(store.reload() == CredentialChanges(added: [token.id]))
        }
    }

    @Test("A symbolic link, a file open to others, and strange names are not taken")
    func attacks() throws {
        let token = try data.folder.create(name: "web").token
        let store = try store()
        let other = IssuedToken()
        let planted = data.text(token.id).replacingOccurrences(of: token.id, with: other.id)
        _ = FileManager.default.createFile(
            atPath: data.path + "/planted",
            contents: Data(planted.utf8),
            attributes: [.posixPermissions: 0o600]
        )
        try FileManager.default.createSymbolicLink(
            atPath: data.file(other.id),
            withDestinationPath: data.path + "/planted"
        )
        store.reload()
        #expect(verify(store, other.id, token.secret).refusal == .unknown)
        try FileManager.default.removeItem(atPath: data.file(other.id))
        data.write(other.id, planted, mode: 0o644)
        store.reload()
        #expect(verify(store, other.id, token.secret).refusal == .unknown)
        #expect(log.all.contains { $0.contains("chmod 600") })
        data.write("Strange Name", planted)
        data.write("x", planted)
        store.reload()
        #expect(store.statistics.good == 1)
        #expect(chmod(data.file(other.id), 0o600) == 0)
        store.reload()
        #expect(store.statistics.good == 2)
    }

    @Test("A folder that others may write stops the start with the command that mends it")
    func openFolder() throws {
        _ = try store()
        #expect(chmod(data.path + "/agents", 0o777) == 0)
        let error = #expect(throws: CredentialError.self) { try store() }
        #expect(error?.code == .file(.openToOthers))
        #expect(error?.reason.contains("chmod 700") == true)
    }

    @Test("A thousand tokens are read and looked up")
    func thousand() throws {
        let tokens = try (0..<1_000).map { try data.folder.create(name: "web-\($0)").token }
        let store = try store()
        #expect(store.statistics.good == 1_000)
        for token in tokens { #expect(verify(store, token.id, token.secret).isGranted) }
        #expect(store.reload().isEmpty)
    }
}
