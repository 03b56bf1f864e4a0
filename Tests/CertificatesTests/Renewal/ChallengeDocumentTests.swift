import ACME
import Certificates
import Store
import TestSupport
import Testing

@Suite("The stored form of challenges")
struct ChallengeDocumentTests {
    private static let key = ClusterKey(secret: (0..<32).map { UInt8($0) })
    private static let place: StoreKey = "acme/challenges/3f08aace122ee2368432c1ca23a049bc"
    /// Generated independently of this code.
    private static let golden = Array(
        (#"{"mac":"cc420ee3d6f5c9607e4c37299ad31302.e4505305bacfc6a35dc33dab79dc37f7070e301173688857832c18f5d2805bca","#
            + #""format":1,"key_authorization":"token-1.6UoWwDCkLjV0J-pQG8c0THxbVhBcpR0AZDift1Yl5DM","#
            + #""name":"a.test","token":"token-1","type":"http-01"}"#).utf8
    )

    @Test("Golden bytes of a sealed challenge")
    func golden() throws {
        let account = try #require(AccountKey(raw: (1...32).map { UInt8($0) }))
        let task = ChallengeTask(.http01, .dns("a.test"), token: "token-1", key: account)
        #expect(task.storeKey == Self.place && task.sealed(with: Self.key) == Self.golden)
        // A challenge is written once.
        let faults = formatFaults(Self.golden, keepsUnknownFields: false) { body in
            SealedDocument.seal(body, .challenge, context: Self.place.path, with: Self.key)
        } recode: { bytes in
            let stored = StoredValue(bytes: bytes, version: 7)
            let body = try SealedDocument.open(stored, at: Self.place, with: ClusterKeyring([Self.key]))
            return try ChallengeTask(document: body, at: Self.place).sealed(with: Self.key)
        }
        #expect(faults == [])
    }
}
