import Credentials
import Formats
import Store
import TestSupport
import Testing

@Suite("The stored form of credentials")
struct CredentialDocumentTests {
    private static let key = ClusterKey(secret: (0..<32).map { UInt8($0) })
    private static let id = "abcdefghijklmnop"
    /// Generated independently of this code.
    private static let golden = Array(
        (#"{"mac":"cc420ee3d6f5c9607e4c37299ad31302.d3c0cab782930932142cc1047fb612422f5276ea956b02ed4aa00c7f10d9203e","#
            + #""created":"2027-01-15T08:00:00Z","format":1,"hosts":["*.a.test"],"id":"abcdefghijklmnop","max_agents":3,"#
            + #""name":"web","revoked":"2027-01-15T10:00:00Z","secrets":[{"sha256":"#
            + #""11507a0e2f5e69d5dfa40a62a1bd7b6ee57e6bcd85c67c9b8431b36fff21c437"},{"not_after":"2027-01-15T09:00:00Z","#
            + #""sha256":"cba06b5736faf67e54b07b561eae94395e774c517a7d910a54369e1263ccfbd4"}],"services":["api"]}"#)
            .utf8
    )

    private func document(_ bytes: [UInt8]) throws -> CredentialDocument {
        let stored = StoredValue(bytes: bytes, version: 7)
        return try CredentialDocument(stored, id: Self.id, keyring: ClusterKeyring([Self.key]))
    }

    @Test("Golden bytes of a credential")
    func golden() throws {
        let credential = try document(Self.golden).credential
        #expect(credential.id == Self.id && credential.name == "web" && credential.maxAgents == 3)
        #expect(credential.services.map(\.description) == ["api"])
        #expect(credential.hosts.map(\.description) == ["*.a.test"])
        #expect(credential.created == "2027-01-15T08:00:00Z" && credential.revoked == "2027-01-15T10:00:00Z")
        #expect(credential.secrets.map(\.notAfter) == [nil, UnixTime(seconds: 1_800_003_600)])
        let faults = formatFaults(Self.golden) { body in
            SealedDocument.seal(body, .credential, context: "agents/\(Self.id)/7", with: Self.key)
        } recode: { bytes in
            try document(bytes).sealed(version: 7, with: Self.key)
        }
        #expect(faults == [])
    }
}
