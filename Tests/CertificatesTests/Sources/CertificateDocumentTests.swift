import Certificates
import Store
import TestSupport
import Testing

@Suite("The stored form of certificates")
struct CertificateDocumentTests {
    private static let key = ClusterKey(secret: (0..<32).map { UInt8($0) })
    private static let place: StoreKey = "certs/a.test"
    /// Generated independently of this code.
    private static let golden = Array(
        (#"{"mac":"cc420ee3d6f5c9607e4c37299ad31302.dda8f3035a3a1bf607aea331e8446aed9f12779736572b71595a45272e48caf1","#
            + #""authority":"https://ca.test/dir","chain":"CHAIN\n","created":"2027-01-15T08:00:00Z","format":1,"#
            + #""key":"KEY\n","names":["a.test"],"not_after":"2027-04-15T08:00:00Z","#
            + #""sha256":"9f91161f43433e49a6de6db680d79f60159f2e4ac9172621a12846428158440b","source":"acme"}"#).utf8
    )

    private func document(_ bytes: [UInt8]) throws -> CertificateDocument {
        try CertificateDocument(StoredValue(bytes: bytes, version: 7), at: Self.place, ClusterKeyring([Self.key]))
    }

    @Test("Golden bytes of a certificate")
    func golden() throws {
        let document = try document(Self.golden)
        #expect(document.chain == Array("CHAIN\n".utf8) && document.key == Array("KEY\n".utf8))
        #expect(document.source == "acme" && document.authority == "https://ca.test/dir")
        let faults = formatFaults(Self.golden) { body in
            SealedDocument.seal(body, .certificate, context: Self.place.path, with: Self.key)
        } recode: { bytes in
            try self.document(bytes).sealed(at: Self.place, with: Self.key)
        }
        #expect(faults == [])
    }
}
