import ACME
import Certificates
import Cluster
import Formats
import Gateway
import NIOCore
import Outbound
import Settings
import TestSupport
import Testing

@Suite("Configuration of ACME")
struct ACMEConfigurationTests {
    private let file = ConfigurationFile()
    /// The lines that every configuration of a test needs.
    private static let agreed = "acme:\n  agree_to_terms: true\n"

    private func acme(_ yaml: String, environment: [String: String] = [:]) throws -> ACMEConfiguration {
        try #require(try file.load(yaml, environment: environment).acme)
    }

    private func name(_ text: String) -> CertificateName { CertificateName(text)! }

    // MARK: Keys

    @Test("Three lines are enough: a name, an address for the CA, and the agreement")
    func least() throws {
        let acme = try acme("acme_email: admin@example.com\nacme: {agree_to_terms: true, names: [app.example.com]}\n")
        #expect(acme.names == [[name("app.example.com")]])
        #expect(acme.authorities[0].authority.contacts == ["admin@example.com"])
        #expect(acme.authorities.map(\.authority.id) == ["https://acme-v02.api.letsencrypt.org/directory"])
        #expect(acme.challenges == [.http01, .tlsALPN01])
        #expect(acme.dns == nil && acme.profile == nil && acme.preferredIssuer == nil)
        #expect(acme.onDemand == ACMEConfiguration.OnDemand())
        #expect(acme.onDemand.limits == IssuanceBudget.Limits(perMinute: 10, perWeek: 100))
    }

    @Test("Every key is read")
    func everything() throws {
        let common = file.write("common.pem", Self.root)
        let own = file.write("own.pem", Self.root)
        file.write("key", "AAECAwQFBgc\n")
        file.write("token", "t0ken\n")
        let acme = try acme(
            """
            acme:
              email: [a@example.com, b@example.com]
              agree_to_terms: true
              ca:
                - letsencrypt-staging
                - https://ca.example:14000/dir
                - directory: https://own.example/acme
                  eab: {kid: me, key_file: key}
                  ca_bundle: own.pem
              ca_bundle: common.pem
              challenge: [tls-alpn-01]
              names:
                - App.Example.com
                - [example.com, "*.example.com", 192.0.2.7, "2001:DB8::1"]
              profile: shortlived
              preferred_issuer: ISRG Root X1
              dns:
                hook: https://dns.example/hook/
                hook_token_file: token
                ca_bundle: own.pem
                propagation: 1m
              on_demand:
                hosts: ["*.dev.example.com", one.example.com]
                per_minute: 30
                per_week: 400
            """
        )
        let contacts = ["a@example.com", "b@example.com"]
        #expect(acme.authorities.map(\.authority.contacts) == [contacts, contacts, contacts])
        #expect(
            acme.authorities.map(\.authority.id) == [
                "https://acme-staging-v02.api.letsencrypt.org/directory", "https://ca.example:14000/dir",
                "https://own.example/acme",
            ]
        )
        #expect(acme.authorities.map(\.trust) == [.file(path: common), .file(path: common), .file(path: own)])
        let external = ExternalAccount(keyID: "me", key: "AAECAwQFBgc")
        #expect(acme.authorities.map(\.authority.externalAccount) == [nil, nil, external])
        #expect(acme.challenges == [.tlsALPN01, .dns01])
        #expect(
            acme.names == [
                [name("app.example.com")],
                [name("example.com"), name("*.example.com"), .address("192.0.2.7"), .address("2001:db8::1")],
            ]
        )
        #expect(acme.profile == "shortlived" && acme.preferredIssuer == "ISRG Root X1")
        let hook = DNSHookSettings.Hook.http(
            ACMEURL("https://dns.example/hook/")!,
            credential: HookCredential("t0ken"),
            bundle: own
        )
        #expect(acme.dns == DNSHookSettings(hook, propagation: .minutes(1)))
        #expect(acme.onDemand.hosts == [.below("dev.example.com"), .exact("one.example.com")])
        #expect(acme.onDemand.limits == IssuanceBudget.Limits(perMinute: 30, perWeek: 400))
        #expect(acme.onDemand.allows(.exact("a.b.dev.example.com")) && !acme.onDemand.allows(.exact("dev.example.com")))
    }

    @Test("Every key can be set by variables alone")
    func variables() throws {
        let key = file.write("key", "AAECAwQFBgc\n")
        let hook = file.write("hook", "#!/bin/sh\n", mode: 0o700)
        let environment = [
            "HOPGATE_ACME_EMAIL": "a@example.com", "HOPGATE_ACME_CA": "https://ca.example/dir",
            "HOPGATE_ACME_AGREE_TO_TERMS": "true", "HOPGATE_ACME_NAMES": "a.example.com, b.example.com",
            "HOPGATE_ACME_CHALLENGE": "http-01,dns-01", "HOPGATE_ACME_EAB_KID": "me",
            "HOPGATE_ACME_EAB_KEY_FILE": key, "HOPGATE_ACME_DNS_EXEC": hook,
            "HOPGATE_ACME_DNS_PROPAGATION": "0s", "HOPGATE_ACME_ON_DEMAND_HOSTS": "*.example.com",
            "HOPGATE_ACME_ON_DEMAND_PER_MINUTE": "1", "HOPGATE_ACME_PROFILE": "p",
        ]
        let acme = try #require(try file.load(environment: environment).acme)
        #expect(acme.authorities[0].authority.contacts == ["a@example.com"])
        #expect(acme.authorities.map(\.authority.id) == ["https://ca.example/dir"])
        #expect(acme.authorities[0].authority.externalAccount == ExternalAccount(keyID: "me", key: "AAECAwQFBgc"))
        #expect(acme.names == [[name("a.example.com")], [name("b.example.com")]])
        #expect(acme.challenges == [.http01, .dns01])
        #expect(acme.dns == DNSHookSettings(.program(hook), propagation: .zero))
        #expect(acme.onDemand.hosts == [.below("example.com")] && acme.onDemand.limits.perMinute == 1)
        var nested = environment
        nested["HOPGATE_ACME_NAMES"] = "[[a.example.com, b.example.com], c.example.com]"
        #expect(try file.load(environment: nested).acme?.names.map(\.count) == [2, 1])
    }

    @Test("ACME is used if and only if names or hosts on demand are configured")
    func use() throws {
        #expect(try file.load().acme == nil)
        #expect(try file.load("acme_email: a@example.com\nacme: {ca: letsencrypt}\n").acme == nil)
        #expect(try file.load("acme: {names: []}\n").acme == nil)
        #expect(try file.load(Self.agreed + "  on_demand: {hosts: [a.example.com]}\n").acme != nil)
    }

    // MARK: Synonyms

    @Test("The old keys are synonyms of keys in the block; a difference is an error that names both places")
    func synonyms() throws {
        let yaml = "acme_ca: https://ca.example/dir\nacme_email: a@example.com\n" + Self.agreed + "  names: [a.test]\n"
        #expect(try acme(yaml).authorities.map(\.authority.id) == ["https://ca.example/dir"])
        // Equal values in any form are no error.
        let same = try acme(yaml + "  ca: [https://ca.example/dir]\n  email: a@example.com\n")
        #expect(same.authorities.count == 1 && same.authorities[0].authority.contacts == ["a@example.com"])
        #expect(
            file.problems(yaml + "  ca: [https://ca.example/dir, letsencrypt]\n  email: b@example.com\n") == [
                "F:6: acme.ca: differs from acme_ca (F:1). Keep one of the two.",
                "F:7: acme.email: differs from acme_email (F:2). Keep one of the two.",
            ]
        )
        // A source of higher precedence overrides both.
        let decided = try acme(
            yaml + "  email: b@example.com\n",
            environment: ["HOPGATE_ACME_EMAIL": "c@example.com"]
        )
        #expect(decided.authorities[0].authority.contacts == ["c@example.com"])
    }

    @Test("acme_cache_dir is a synonym of store.path, and a difference is an error that names both places")
    func cacheDirectory() throws {
        #expect(try file.load("acme_cache_dir: /srv/acme\n").store.path == "/srv/acme")
        #expect(try file.load("acme_cache_dir: acme\n").store.path == file.folder + "acme")
        #expect(try file.load("acme_cache_dir: /a/\nstore: {path: /a}\n").store.path == "/a")
        #expect(try file.load(environment: ["HOPGATE_ACME_CACHE_DIR": "/b"]).store.path == "/b")
        #expect(try file.load(flags: ["acme-cache-dir": "/c"]).store.path == "/c")
        #expect(
            file.problems("acme_cache_dir: /a\n", flags: ["store-path": "/b"]) == [
                #"F:1: acme_cache_dir: "/a" differs from store.path, "/b" (--store-path). "#
                    + "Certificates are in the store: remove acme_cache_dir, or give both the same folder."
            ]
        )
        let shown = try file.check("acme_cache_dir: /a\n")
        #expect(shown.contains("store.path /a F:1"))
    }

    @Test("store.cluster is the id of a cluster, of a volume; the default folder is not an explicit one")
    func cluster() throws {
        let id = String(repeating: "0a", count: 16)
        #expect(try file.load().store.cluster == nil && !file.load().store.isPathExplicit)
        #expect(try file.load("store: {cluster: \(id)}\n").store.cluster == id)
        #expect(try file.load(environment: ["HOPGATE_STORE_CLUSTER": id.uppercased()]).store.cluster == id)
        #expect(try file.load(flags: ["store-cluster": id]).store.cluster == id)
        #expect(file.problems("store: {cluster: mine}\n").first?.contains("is not the id of a cluster") == true)
        #expect(file.problems("store: {driver: memory, cluster: '\(id)'}\n").first?.contains("needs a volume") == true)
        #expect(try file.load("store: {path: /a}\n").store.isPathExplicit)
        #expect(try file.load(environment: ["HOPGATE_STORE_PATH": "/a"]).store.isPathExplicit)
        #expect(try file.load("acme_cache_dir: /a\n").store.isPathExplicit)
    }

    @Test("The lease TTL is between one second and five minutes")
    func leaseTime() throws {
        #expect(try file.load().store.leaseTTL == .seconds(15))
        #expect(try file.load("store: {lease_ttl: 1s}\n").store.leaseTTL == .seconds(1))
        #expect(try file.load(environment: ["HOPGATE_STORE_LEASE_TTL": "5m"]).store.leaseTTL == .minutes(5))
        #expect(
            file.problems("store: {lease_ttl: 999ms}\n") == [
                #"F:1: store.lease_ttl: "999ms" is out of range. Write a duration from 1s to 5m."#
            ]
        )
    }

    // MARK: The development CA

    @Test("The development CA stays enabled with ACME, until the first certificate and for other names")
    func developmentCA() throws {
        let configuration = try file.load(Self.agreed + "  names: [app.example.com]\n")
        #expect(configuration.usesDevelopmentCA)
        #expect(configuration.servedCertificates(check: { _ in }).names.contains("app.example.com"))
    }

    @Test(
        "There is no pin of the development CA for hosts that will get a certificate by ACME",
        arguments: [
            (["gw.example.com"], true), (["GW.example.com."], true), (["other.example.com"], false),
            (["x.wild.example.com"], true), (["y.x.wild.example.com"], false), (["wild.example.com"], false),
            (["y.x.dev.example.com"], true), (["other.example.com", "gw.example.com"], true), (["192.0.2.1"], false),
            ([], false),
        ]
    )
    func answers(_ hosts: [String], _ expected: Bool) throws {
        file.write("hook", "", mode: 0o700)
        let acme = try acme(
            Self.agreed + """
                  names: [gw.example.com, "*.wild.example.com"]
                  dns: {exec: hook}
                  on_demand: {hosts: ["*.dev.example.com"]}
                """
        )
        #expect(acme.mayAnswer(at: hosts) == expected)
    }

    // MARK: Secrets

    @Test("The check prints every setting and no secret")
    func check() throws {
        file.write("hook", "", mode: 0o700)
        let yaml = """
            acme_email: a@example.com
            acme:
              agree_to_terms: true
              ca: {directory: https://ca.example/dir, eab: {kid: me, key: c2VjcmV0LWVhYi1rZXk}}
              names: [a.test, [b.test, c.test]]
              dns: {hook: https://dns.example, hook_token: secret-hook-token}
              on_demand: {hosts: ["*.d.test"]}
            """
        let lines = try file.check(yaml).filter { $0.hasPrefix("acme") }
        #expect(
            lines.sorted()
                == [
                    "acme.agree_to_terms true F:3",
                    "acme.ca[0] https://ca.example/dir, external account me F:4",
                    "acme.challenge http-01, tls-alpn-01, dns-01 default",
                    "acme.dns.hook https://dns.example F:6", "acme.dns.hook_token (set, not shown) F:6",
                    "acme.dns.propagation 10s default", "acme.email a@example.com F:1", "acme.names[0] a.test F:5",
                    "acme.names[1] b.test, c.test F:5", "acme.on_demand.hosts *.d.test F:7",
                    "acme.on_demand.per_minute 10 default", "acme.on_demand.per_week 100 default",
                    "acme.preferred_issuer not set default",
                    "acme.profile not set default",
                ]
        )
        let configuration = try file.load(yaml)
        var dumped = ""
        dump(configuration.acme?.dns, to: &dumped)
        #expect(!dumped.contains("secret") && !"\(configuration.acme!.dns!)".contains("secret-hook"))
        #expect(!"\(configuration.acme!.authorities[0].authority.externalAccount!)".contains("c2Vj"))
    }

    @Test("No error message contains a secret")
    func secretMistakes() {
        file.write("empty", "\n")
        let lines = file.problems(
            Self.agreed + """
                  names: [a.test]
                  eab: {kid: me, key: "not base64url: hush-hush"}
                  dns: {hook: https://dns.example, hook_token: "hush hush"}
                """
        )
        #expect(
            lines == [
                "F:4: acme.eab.key: is not a base64url key. Copy the HMAC key as the CA shows it, without quotes or spaces.",
                "F:5: acme.dns.hook_token: is not a token. Give plain characters without blanks, or NAME:PASSWORD.",
            ]
        )
        #expect(
            file.problems(Self.agreed + "  names: [a.test]\n  eab: {kid: me, key: AAAA, key_file: k}\n") == [
                "F:4: acme.eab.key: is given both itself and as a file. Keep one of the two."
            ]
        )
        #expect(
            file.problems(Self.agreed + "  names: [a.test]\n  eab: {kid: me, key_file: nowhere}\n") == [
                #"F:4: acme.eab.key: cannot read "nowhere": No such file or directory. Name a file that this process may read."#
            ]
        )
        #expect(
            file.problems(Self.agreed + "  names: [a.test]\n  eab: {kid: me, key_file: empty}\n") == [
                #"F:4: acme.eab.key: "empty" is empty. Write the value into it."#
            ]
        )
    }

    /// A certificate for files that have to contain one.
    private static let root = """
        -----BEGIN CERTIFICATE-----
        MIIBfzCCASWgAwIBAgIUPGk+iwiMI2/fVIInytpHGoFEYfEwCgYIKoZIzj0EAwIw
        FDESMBAGA1UEAwwJVGVzdCByb290MCAXDTI2MTEyNTIxMDczN1oYDzIxMjYxMTAx
        MjEwNzM3WjAUMRIwEAYDVQQDDAlUZXN0IHJvb3QwWTATBgcqhkjOPQIBBggqhkjO
        PQMBBwNCAAQbAfceVaDksvooLO0nhpCzxR5JbQGxXVGCyij64dQiF25DssB1JeDL
        JWlhv8vR+J6RheX/Y3GW+6C9LAImGDrko1MwUTAdBgNVHQ4EFgQUjpnFnMDWvFjy
        MmxYVis3W5taptwwHwYDVR0jBBgwFoAUjpnFnMDWvFjyMmxYVis3W5taptwwDwYD
        VR0TAQH/BAUwAwEB/zAKBggqhkjOPQQDAgNIADBFAiEAvacuTv6MvX5n8TetauUX
        Z6DqMv8xs7vKk6C34AARpIECIDrRjGATOgW7NyuyDxlOry6konsHVB6HMTYPftBX
        ukaE
        -----END CERTIFICATE-----

        """
}
