import ACME
import Certificates
import Store
import Testing

@Suite("Names as keys of the store")
struct CertificateKeyTests {
    @Test(
        "Every name has one key, and the key yields the name",
        arguments: [
            ("app.example.com", "app.example.com"), ("localhost", "localhost"),
            ("*.example.com", "_wildcard.example.com"), ("192.0.2.1", "192.0.2.1"),
            ("2001:db8::1", "_ipv6.2001-db8--1"), ("::1", "_ipv6.--1"), ("::ffff:192.0.2.1", "_ipv6.--ffff-192.0.2.1"),
            ("_x.example.com", "_dns._x.example.com"), ("_wildcard.example.com", "_dns._wildcard.example.com"),
            ("_ipv6.--1", "_dns._ipv6.--1"), ("development-ca", "_dns.development-ca"),
            ("a--b.example.com", "a--b.example.com"),
        ]
    )
    func roundTrip(_ text: String, _ component: String) throws {
        guard let name = CertificateName(text) else {
            // "--1" is no label, so it cannot be mistaken for an address.
            #expect(text == "_ipv6.--1")
            return
        }
        let key = try name.storeKey
        #expect(key.path == "certs/\(component)")
        #expect(CertificateName(storeKey: key) == name)
    }

    @Test(
        "A key that belongs to no name is rejected",
        arguments: [
            "certs/development-ca", "certs/App.example.com", "certs/_dns.app.example.com", "certs/_wildcard.",
            "certs/_ipv6.x", "certs/_ipv6.192.0.2.1", "certs/a..b", "other/app.example.com", "certs/a/b",
            "certs/_ipv6.2001-DB8--1",
        ]
    )
    func foreign(_ path: String) throws {
        #expect(CertificateName(storeKey: try StoreKey(path)) == nil)
    }

    /// A DNS name of this length.
    private func text(_ length: Int) -> String {
        String((0..<length).map { $0 % 61 == 60 && $0 < length - 1 ? "." : "a" })
    }

    @Test("Every DNS name of up to 253 characters has a key, and a wildcard of up to 247")
    func long() throws {
        for text in [text(129), text(253), "*.\(text(245))", "_\(text(249))"] {
            let name = try #require(CertificateName(text))
            #expect(CertificateName(storeKey: try name.storeKey) == name)
        }
    }

    @Test("A name that is too long for a key is an error that says so", arguments: [true, false])
    func tooLong(_ isWildcard: Bool) throws {
        let name = try #require(CertificateName(isWildcard ? "*.\(text(246))" : "_\(text(250))"))
        let error = #expect(throws: CertificatesError.self) { try name.storeKey }
        #expect(error?.reason.contains("too long") == true)
    }

    @Test("Random names come back")
    func random() throws {
        let letters = Array("abz019-_.*:f")
        var known: [StoreKey: CertificateName] = [:]
        for _ in 0..<20_000 {
            let text = String((0..<Int.random(in: 1...12)).map { _ in letters.randomElement()! })
            guard let name = CertificateName(text) else { continue }
            let key = try name.storeKey
            #expect(CertificateName(storeKey: key) == name)
            #expect(known.updateValue(name, forKey: key) ?? name == name)
        }
        #expect(known.count > 100)
    }
}
