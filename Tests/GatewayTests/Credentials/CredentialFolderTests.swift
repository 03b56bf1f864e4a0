import Foundation
import Gateway
import Testing

@Suite("Credentials on disk")
struct CredentialFolderTests {
    let data = DataFolder()

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
        }
    }

    @Test("The file holds the hash and never the secret; folder 0700, file 0600")
    func file() throws {
        let (token, credential) = try data.folder.create(
            name: "web",
            services: ["front", "api-*"],
            hosts: ["*.App.test"]
        )
        let text = data.text(token.id)
        #expect(!text.contains(token.secret))
        let json = try #require(try JSONSerialization.jsonObject(with: Data(text.utf8)) as? [String: Any])
        #expect(json["format"] as? Int == 1)
        #expect(json["name"] as? String == "web")
        #expect(json["services"] as? [String] == ["front", "api-*"])
        #expect(json["hosts"] as? [String] == ["*.app.test"])
        #expect((json["secret_sha256"] as? String)?.count == 64)
        #expect(json["revoked"] is NSNull)
        #expect(data.mode(data.file(token.id)) == 0o600)
        #expect(data.mode(data.path + "/agents") == 0o700)
        #expect(try data.folder.list().credentials.map(\.id) == [credential.id])
    }

    @Test("The hash is the SHA-256 of the secret's text")
    func hash() throws {
        let token = try data.folder.create(name: "web").token
        let process = Process()
        process.executableURL = URL(fileURLWithPath: "/usr/bin/sha256sum")
        let (input, output) = (Pipe(), Pipe())
        process.standardInput = input
        process.standardOutput = output
        try process.run()
        input.fileHandleForWriting.write(Data(token.secret.utf8))
        try input.fileHandleForWriting.close()
        let digest = String(decoding: output.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self).prefix(64)
        process.waitUntilExit()
        #expect(data.text(token.id).contains(digest))
    }

    @Test(
        "Names and patterns that are none are refused with a remedy",
        arguments: ["", "Web", "a b", "a/b", "../x", "ä"]
    )
    func badNames(_ name: String) {
        let error = #expect(throws: CredentialError.self) { try data.folder.create(name: name) }
        #expect(error?.code == .invalid)
        for host in ["*", "a..b", "http://x", "x:1", "*.*.x"] {
            #expect(throws: CredentialError.self) { try data.folder.create(name: "web", hosts: [host]) }
        }
        #expect(throws: CredentialError.self) { try data.folder.create(name: "web", services: ["a b"]) }
        #expect(throws: CredentialError.self) { try data.folder.create(name: String(repeating: "a", count: 64)) }
        #expect((try? data.folder.list().credentials.count) == 0)
    }

    @Test("What a token allows")
    func allows() throws {
        let (_, credential) = try data.folder.create(
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
        let everything = try data.folder.create(name: "all").credential
        #expect(everything.allows(service: "anything"))
        #expect(!everything.allows(host: try HostPattern("one.test")))
    }

    @Test("Revoking by id and by name keeps fields that this version does not know")
    func revoke() throws {
        let first = try data.folder.create(name: "web").token
        let second = try data.folder.create(name: "web").token
        data.edit(first.id, "\"name\"", "\"limits\" : {\"rate\" : 5, \"x\" : [1.5, true, null]},\n  \"name\"")
        let error = #expect(throws: CredentialError.self) { try data.folder.revoke(idOrName: "web") }
        #expect(error?.code == .ambiguous)
        #expect(error?.reason.contains(first.id) == true && error?.reason.contains(second.id) == true)
        #expect(try data.folder.revoke(idOrName: first.id).map(\.id) == [first.id])
        let json = try JSONSerialization.jsonObject(with: Data(data.text(first.id).utf8)) as? [String: Any]
        #expect((json?["limits"] as? [String: Any])?["rate"] as? Int == 5)
        #expect(json?["revoked"] is String)
        #expect(try data.folder.revoke(idOrName: first.id).isEmpty)
        #expect(try data.folder.revoke(idOrName: "web").map(\.id) == [second.id])
        #expect(try data.folder.list().credentials.allSatisfy(\.isRevoked))
        let third = try data.folder.create(name: "web").token
        let fourth = try data.folder.create(name: "web").token
        #expect(Set(try data.folder.revoke(idOrName: "web", all: true).map(\.id)) == [third.id, fourth.id])
        let missing = #expect(throws: CredentialError.self) { try data.folder.revoke(idOrName: "none") }
        #expect(missing?.code == .notFound)
    }

    @Test("An empty or missing folder lists nothing")
    func empty() throws {
        #expect(try data.folder.list().credentials.isEmpty)
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
