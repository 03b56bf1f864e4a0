import Certificates
import Dispatch
import Foundation
import SwiftASN1
import Synchronization
import Testing
import X509

@Suite("The development CA")
struct DevelopmentCATests {
    let scratch = Scratch()
    var folder: String { scratch.file("data/development-ca") }

    @Test("The first start makes it, the second one reads it")
    func madeOnce() throws {
        let first = try DevelopmentCA.loadOrCreate(directory: folder, names: ["app.test"])
        let second = try DevelopmentCA.loadOrCreate(directory: folder, names: ["app.test"])
        #expect(first.root.fingerprint == second.root.fingerprint)
        #expect(first.leaf.leafSHA256 == second.leaf.leafSHA256)
        #expect(first.root.pin == "sha256:" + first.root.fingerprint)
        #expect(first.root.path == folder + "/root.pem")
        #expect(scratch.read("data/development-ca/root.pem") == first.root.certificatePEM)
    }

    @Test("Folders are 0700, files 0600, and no temporary file is left")
    func modes() throws {
        _ = try DevelopmentCA.loadOrCreate(directory: folder)
        #expect(scratch.mode("data") == 0o700)
        #expect(scratch.mode("data/development-ca") == 0o700)
        #expect(scratch.names("data/development-ca") == ["leaf.pem", "root-with-key.pem", "root.pem"])
        for name in scratch.names("data/development-ca") {
            #expect(scratch.mode("data/development-ca/\(name)") == 0o600)
        }
    }

    @Test("openssl verifies the leaf for each kind of name, and agrees on the fingerprint")
    func openssl() throws {
        let authority = try DevelopmentCA.loadOrCreate(
            directory: folder,
            names: ["App.Test", "*.wild.test", "10.1.2.3"]
        )
        let leaf = folder + "/leaf.pem"
        func verify(_ arguments: [String]) throws -> (status: Int32, output: String) {
            try run(
                "/usr/bin/openssl",
                ["verify", "-x509_strict", "-purpose", "sslserver", "-CAfile", authority.root.path] + arguments + [leaf]
            )
        }
        for name in ["localhost", "app.test", "one.wild.test"] {
            let result = try verify(["-verify_hostname", name])
            #expect(result.status == 0, "\(name): \(result.output)")
        }
        for address in ["127.0.0.1", "::1", "10.1.2.3"] {
            let result = try verify(["-verify_ip", address])
            #expect(result.status == 0, "\(address): \(result.output)")
        }
        #expect(try verify(["-verify_hostname", "other.test"]).status != 0)
        let printed = try run(
            "/usr/bin/openssl",
            ["x509", "-in", authority.root.path, "-noout", "-fingerprint", "-sha256"]
        )
        let digits = printed.output.drop { $0 != "=" }.dropFirst().filter { $0 != ":" && !$0.isWhitespace }
        #expect(digits.lowercased() == authority.root.fingerprint)
    }

    @Test("The chain that is served is the leaf and then the root")
    func chain() throws {
        let authority = try DevelopmentCA.loadOrCreate(directory: folder)
        let text = String(decoding: authority.leaf.chainPEM, as: UTF8.self)
        #expect(text.components(separatedBy: "BEGIN CERTIFICATE").count == 3)
        #expect(text.hasSuffix(String(decoding: authority.root.certificatePEM, as: UTF8.self)))
    }

    @Test("Root and leaf begin a day in the past and last ten years and 90 days")
    func dates() throws {
        let now = Date(timeIntervalSince1970: 1_800_000_000)
        let authority = try DevelopmentCA.loadOrCreate(directory: folder, now: now)
        func certificate(_ pem: [UInt8]) throws -> Certificate {
            let text = String(decoding: pem, as: UTF8.self)
            return try Certificate(
                pemEncoded: text.components(separatedBy: "-----END CERTIFICATE-----")[0] + "-----END CERTIFICATE-----"
            )
        }
        let root = try certificate(authority.root.certificatePEM)
        let leaf = try certificate(authority.leaf.chainPEM)
        #expect(root.notValidBefore == now - 86_400)
        #expect(root.notValidAfter == now + 3_650 * 86_400)
        #expect(leaf.notValidBefore == now - 86_400)
        #expect(leaf.notValidAfter == now + 90 * 86_400)
    }

    @Test("The leaf is issued again for other names or when worn; the root stays")
    func reissue() throws {
        let now = Date()
        let first = try DevelopmentCA.loadOrCreate(directory: folder, names: ["a.test"], now: now)
        let renamed = try DevelopmentCA.loadOrCreate(directory: folder, names: ["b.test"], now: now)
        #expect(renamed.leaf.leafSHA256 != first.leaf.leafSHA256)
        #expect(renamed.leaf.names.contains(.dns("b.test")) && !renamed.leaf.names.contains(.dns("a.test")))
        let young = try DevelopmentCA.loadOrCreate(directory: folder, names: ["b.test"], now: now + 59 * 86_400)
        #expect(young.leaf.leafSHA256 == renamed.leaf.leafSHA256)
        let worn = try DevelopmentCA.loadOrCreate(directory: folder, names: ["b.test"], now: now + 61 * 86_400)
        #expect(worn.leaf.leafSHA256 != renamed.leaf.leafSHA256)
        #expect(worn.root.fingerprint == first.root.fingerprint)
    }

    @Test("A damaged leaf, or one of another root, is issued again")
    func damagedLeaf() throws {
        let first = try DevelopmentCA.loadOrCreate(directory: folder)
        let foreign = try DevelopmentCA.loadOrCreate(directory: scratch.file("other"))
        for bytes in [[], [0xFF], first.root.certificatePEM, foreign.leaf.chainPEM + foreign.leaf.keyPEM] {
            scratch.write("data/development-ca/leaf.pem", bytes)
            let again = try DevelopmentCA.loadOrCreate(directory: folder)
            #expect(again.root.fingerprint == first.root.fingerprint)
            let verified = try run("/usr/bin/openssl", ["verify", "-CAfile", again.root.path, folder + "/leaf.pem"])
            #expect(verified.status == 0, "\(verified.output)")
        }
    }

    @Test("A damaged root stops the start, names the file and is left as it is")
    func damagedRoot() throws {
        let first = try DevelopmentCA.loadOrCreate(directory: folder)
        for bytes in [[], first.root.certificatePEM, [0xFF, 0x00]] {
            scratch.write("data/development-ca/root-with-key.pem", bytes)
            let error = #expect(throws: CertificatesError.self) { try DevelopmentCA.loadOrCreate(directory: folder) }
            #expect(error?.path == folder + "/root-with-key.pem")
            #expect(error?.reason.contains("backup") == true)
            #expect(scratch.read("data/development-ca/root-with-key.pem") == bytes)
        }
    }

    @Test("A public copy of the root that was lost or changed is written again")
    func publicCopy() throws {
        let first = try DevelopmentCA.loadOrCreate(directory: folder)
        scratch.write("data/development-ca/root.pem", Array("other".utf8))
        _ = try DevelopmentCA.loadOrCreate(directory: folder)
        #expect(scratch.read("data/development-ca/root.pem") == first.root.certificatePEM)
    }

    @Test(
        "A symbolic link in place of a file is refused and what it points to stays untouched",
        arguments: ["root-with-key.pem", "root.pem", "leaf.pem"]
    )
    func linkedFile(_ name: String) throws {
        let victim = scratch.write("victim", "keep me")
        _ = try PrivateFolder.make(path: folder)
        scratch.link("data/development-ca/\(name)", to: victim)
        let error = #expect(throws: CertificatesError.self) { try DevelopmentCA.loadOrCreate(directory: folder) }
        #expect(error?.code == .file(.symbolicLink))
        #expect(error?.path == "\(folder)/\(name)")
        #expect(scratch.read("victim") == Array("keep me".utf8))
    }

    @Test("A symbolic link in place of the folder is refused")
    func linkedFolder() throws {
        try FileManager.default.createDirectory(atPath: scratch.file("elsewhere"), withIntermediateDirectories: true)
        try FileManager.default.createDirectory(atPath: scratch.file("data"), withIntermediateDirectories: true)
        scratch.link("data/development-ca", to: scratch.file("elsewhere"))
        let error = #expect(throws: CertificatesError.self) { try DevelopmentCA.loadOrCreate(directory: folder) }
        #expect(error?.code == .file(.symbolicLink))
        #expect(scratch.names("elsewhere").isEmpty)
    }

    @Test("What others may read or write is refused with the command that mends it", arguments: [0o604, 0o602, 0o606])
    func openToOthers(_ mode: Int) throws {
        _ = try DevelopmentCA.loadOrCreate(directory: folder)
        #expect(chmod(folder + "/root-with-key.pem", mode_t(mode)) == 0)
        let error = #expect(throws: CertificatesError.self) { try DevelopmentCA.loadOrCreate(directory: folder) }
        #expect(error?.code == .file(.openToOthers))
        #expect(error?.reason.contains("chmod 600") == true)
        #expect(chmod(folder + "/root-with-key.pem", 0o660) == 0)
        _ = try DevelopmentCA.loadOrCreate(directory: folder)
        #expect(chmod(folder, 0o755) == 0)
        #expect(throws: CertificatesError.self) { try DevelopmentCA.loadOrCreate(directory: folder) }
        #expect(chmod(folder, 0o2770) == 0)
        _ = try DevelopmentCA.loadOrCreate(directory: folder)
    }

    @Test("An oversized root is refused unread")
    func oversize() throws {
        _ = try PrivateFolder.make(path: folder)
        scratch.write("data/development-ca/root-with-key.pem", [UInt8](repeating: 0x41, count: 2 << 20))
        let error = #expect(throws: CertificatesError.self) { try DevelopmentCA.loadOrCreate(directory: folder) }
        #expect(error?.code == .file(.tooLarge))
    }

    @Test("32 threads that start at once end with one root", arguments: 1...10)
    func threads(_ round: Int) {
        let folder = scratch.file("race/ca")
        let fingerprints = Mutex<[String?]>([])
        let (gate, ended) = (DispatchSemaphore(value: 0), DispatchGroup())
        for _ in 0..<32 {
            ended.enter()
            Thread.detachNewThread {
                gate.wait()
                let fingerprint = try? DevelopmentCA.loadOrCreate(directory: folder).root.fingerprint
                fingerprints.withLock { $0.append(fingerprint) }
                ended.leave()
            }
        }
        for _ in 0..<32 { gate.signal() }
        #expect(ended.wait(timeout: .now() + 60) == .success)
        let seen = fingerprints.withLock { $0 }
        #expect(seen.count == 32)
        #expect(Set(seen).count == 1 && seen[0] != nil)
    }

    @Test("Processes that start at once end with one root", .timeLimit(.minutes(2)))
    func processes() async throws {
        let path = scratch.path
        try await withThrowingTaskGroup(of: Void.self) { group in
            for number in 0..<6 {
                group.addTask {
                    await #expect(processExitsWith: .success) { [path = path as String, number = number as Int] in
                        let authority = try DevelopmentCA.loadOrCreate(directory: path + "/ca")
                        try Data(authority.root.fingerprint.utf8).write(
                            to: URL(fileURLWithPath: "\(path)/process-\(number)")
                        )
                    }
                }
            }
            try await group.waitForAll()
        }
        let fingerprints = (0..<6).map { String(decoding: scratch.read("process-\($0)"), as: UTF8.self) }
        #expect(Set(fingerprints).count == 1)
        #expect(fingerprints[0] == (try DevelopmentCA.loadOrCreate(directory: path + "/ca").root.fingerprint))
    }
}
