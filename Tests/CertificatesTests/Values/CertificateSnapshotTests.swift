import ACME
import Certificates
import TestSupport
import Testing

@Suite("Look-up by server name")
struct CertificateSnapshotTests {
    @Test("An exact name wins over a wildcard, a wildcard over the fallback")
    func order() throws {
        let fallback = try TestCertificate(["fallback.test"]).loaded()
        let wildcard = try TestCertificate(["*.app.test", "app.test"]).loaded()
        let exact = try TestCertificate(["one.app.test"]).loaded()
        let snapshot = CertificateSnapshot([fallback, wildcard, exact])
        #expect(snapshot.select(serverName: "one.app.test") === exact)
        #expect(snapshot.select(serverName: "two.app.test") === wildcard)
        #expect(snapshot.select(serverName: "app.test") === wildcard)
        #expect(snapshot.select(serverName: "other.test") === fallback)
        #expect(snapshot.select(serverName: nil) === fallback)
        #expect(snapshot.select(serverName: "") === fallback)
    }

    @Test("A wildcard stands for exactly one label")
    func oneLabel() throws {
        let fallback = try TestCertificate(["fallback.test"]).loaded()
        let wildcard = try TestCertificate(["*.app.test"]).loaded()
        let snapshot = CertificateSnapshot([fallback, wildcard])
        #expect(snapshot.select(serverName: "a.b.app.test") === fallback)
        #expect(snapshot.select(serverName: "app.test") === fallback)
        #expect(snapshot.select(serverName: ".app.test") === fallback)
    }

    @Test("Names are compared in lower case and without the final dot")
    func lowerCase() throws {
        let fallback = try TestCertificate(["fallback.test"]).loaded()
        let upper = try TestCertificate(["WWW.App.TEST", "*.Wild.test"]).loaded()
        let snapshot = CertificateSnapshot([fallback, upper])
        #expect(snapshot.select(serverName: "wWw.aPP.test") === upper)
        #expect(snapshot.select(serverName: "www.app.test.") === upper)
        #expect(snapshot.select(serverName: "X.WILD.TEST.") === upper)
    }

    @Test("Of two certificates for one name the earlier is served")
    func earlierWins() throws {
        let first = try TestCertificate(["same.test"]).loaded()
        let second = try TestCertificate(["same.test", "*.same.test"]).loaded()
        let snapshot = CertificateSnapshot([first, second])
        #expect(snapshot.select(serverName: "same.test") === first)
        #expect(snapshot.select(serverName: "a.same.test") === second)
    }

    @Test("The names that a change concerns are those that were added, removed or replaced")
    func changedNames() throws {
        func snapshot(_ certificates: [String]...) throws -> CertificateSnapshot {
            CertificateSnapshot(try certificates.map { try TestCertificate($0).loaded() })
        }
        let leaf = ["localhost", "a.test"]
        // A host of an agent was added to the development leaf, and another one got a certificate.
        #expect(try snapshot(leaf + ["b.test"]).names(changedSince: try snapshot(leaf)) == ["b.test"])
        #expect(try snapshot(["a.test"], ["localhost"]).names(changedSince: try snapshot(leaf)) == ["a.test"])
        // A renewal.
        #expect(try snapshot(leaf).names(changedSince: try snapshot(leaf)) == ["localhost"])
        let (one, two) = (try TestCertificate(["a.test"]).loaded(), try TestCertificate(["b.test"]).loaded())
        let both = CertificateSnapshot([one, two])
        #expect(CertificateSnapshot([two, one]).names(changedSince: both) == [])
        #expect(CertificateSnapshot([one]).names(changedSince: both) == ["b.test"])
    }

    @Test(
        "Hostile server names get the fallback",
        arguments: ["*.app.test", ".", "..", "a..b", "\u{0}", "é.test", String(repeating: "a.", count: 40_000)]
    )
    func hostile(_ name: String) throws {
        let fallback = try TestCertificate(["fallback.test"]).loaded()
        let snapshot = CertificateSnapshot([fallback, try TestCertificate(["one.app.test"]).loaded()])
        #expect(snapshot.select(serverName: name) === fallback)
    }

    @Test("Names have one canonical form")
    func names() throws {
        #expect(CertificateName("App.Test.") == .dns("app.test"))
        #expect(CertificateName("*.App.Test") == .dns("*.app.test"))
        #expect(CertificateName("0:0:0:0:0:0:0:1") == .address("::1"))
        #expect(CertificateName("127.0.0.1") == .address("127.0.0.1"))
        for bad in [
            "", ".", "*", "*.", "a.*.test", "-a.test", "a-.test", "a b", "a/b", "a..b", "ä.test", "127.0.0.1\u{0}x",
        ] {
            #expect(CertificateName(bad) == nil, "\(bad)")
        }
        #expect(CertificateName(String(repeating: "a", count: 64) + ".test") == nil)
    }
}
