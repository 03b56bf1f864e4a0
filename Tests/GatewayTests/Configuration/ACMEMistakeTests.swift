import Gateway
import Settings
import TestSupport
import Testing

@Suite("Errors in the configuration of ACME")
struct ACMEMistakeTests {
    private let file = ConfigurationFile()

    /// The problems of an `acme` block that continues with these lines, the first of which is line 3.
    private func problems(_ lines: String, agreed: Bool = true) -> [String] {
        let indented = lines.split(separator: "\n").map { "  \($0)\n" }.joined()
        return file.problems("acme:\n  agree_to_terms: \(agreed)\n" + indented)
    }

    @Test("The operator has to agree to the terms explicitly")
    func terms() {
        let remedy = "Read the terms of service of each CA in acme.ca, then write \"agree_to_terms: true\"."
        let what = "acme.agree_to_terms: must be true to use ACME. \(remedy)"
        #expect(problems("names: [a.test]", agreed: false) == ["F:2: \(what)"])
        #expect(file.problems("acme:\n  names: [a.test]\n") == ["F:2: \(what)"])
        #expect(file.problems("acme:\n  on_demand:\n    hosts: [a.test]\n") == ["F:3: \(what)"])
        #expect(file.problems(environment: ["HOPGATE_ACME_NAMES": "a.test"]) == ["HOPGATE_ACME_NAMES: \(what)"])
    }

    @Test("Values that are not names are rejected")
    func names() {
        let long = "*." + String(repeating: "a.", count: 122) + "test"
        #expect(
            problems(
                """
                names:
                - https://a.test/
                - a.test:443
                - "*"
                - a.*.test
                - münchen.test
                - {host: a.test}
                - []
                -
                - "\(long)"
                - [ok.test, "not ok"]
                """
            ) == [
                #"F:4: acme.names[0]: "https://a.test/" is a URL or path, not a host. Write a host such as app.example.com or *.example.com."#,
                #"F:5: acme.names[1]: "a.test:443" has a port. Write a host such as app.example.com or *.example.com."#,
                #"F:6: acme.names[2]: "*" would take every host. Write a host such as app.example.com or *.example.com."#,
                #"F:7: acme.names[3]: "a.*.test" has a * that is not its first label. Write a host such as app.example.com or *.example.com."#,
                #"F:8: acme.names[4]: "münchen.test" is not ASCII. Write an international name in its xn-- form."#,
                "F:9: acme.names[5]: is a map, not a name. Write a name, or a list of names that share a certificate.",
                "F:10: acme.names[6]: is empty. Give it a name, or remove it.",
                "F:11: acme.names[7]: has no value. Give one or remove the key.",
                #"F:12: acme.names[8]: "\#(long.prefix(80))…" is too long for a folder's name in the store. Put a shorter name before it, in a list that shares the certificate."#,
                #"F:13: acme.names[9][1]: "not ok" is not a host name. Write a host such as app.example.com or *.example.com."#,
            ]
        )
    }

    @Test("A name occurs in one certificate, once")
    func duplicates() {
        file.write("hook", "", mode: 0o700)
        #expect(
            problems(
                """
                dns: {exec: hook}
                names:
                - a.test
                - [b.test, A.test]
                - [c.test, C.TEST]
                - ["*.d.test", x.d.test, y.x.d.test, d.test]
                - ["2001:db8::1", "2001:DB8:0::1"]
                """
            ) == [
                "F:6: acme.names[1][1]: a.test is already named at F:5. Keep one of the two.",
                "F:7: acme.names[2][1]: c.test is already named at F:7. Keep one of the two.",
                "F:8: acme.names[3][1]: x.d.test is covered by *.d.test of the same certificate, which CAs refuse. Remove it.",
                "F:9: acme.names[4][1]: 2001:db8::1 is already named at F:9. Keep one of the two.",
            ]
        )
        let hundred = (0...100).map { "n\($0).test" }.joined(separator: ", ")
        #expect(
            problems("names: [[\(hundred)]]") == [
                "F:3: acme.names[0]: has 101 names; CAs put at most 100 into a certificate. Split it into several certificates."
            ]
        )
        #expect(problems("names: [[\(hundred.dropLast(", n100.test".count))]]") == [])
    }

    @Test("A wildcard needs a DNS hook, and an address a challenge other than dns-01")
    func provable() {
        #expect(
            problems("names: [[a.test, \"*.a.test\"]]") == [
                "F:3: acme.names[0][1]: *.a.test is a wildcard, which CAs validate through the DNS, and no DNS hook is set. "
                    + "Set acme.dns.hook (a URL) or acme.dns.exec (a program), or name each host."
            ]
        )
        #expect(problems("names: [\"*.a.test\"]\ndns: {hook: https://dns.test}") == [])
        #expect(
            problems("names: [192.0.2.1]\ndns: {hook: https://dns.test}\nchallenge: dns-01") == [
                "F:3: acme.names[0]: 192.0.2.1 is an address, which dns-01 cannot validate, and no other challenge is allowed. "
                    + "Add http-01 or tls-alpn-01 to acme.challenge."
            ]
        )
        // An invalid hook is reported once.
        #expect(
            problems("names: [\"*.a.test\"]\nchallenge: dns-01\ndns: {exec: nowhere}") == [
                #"F:5: acme.dns.exec: cannot run "nowhere": No such file or directory. Name a program that this process may run."#
            ]
        )
    }

    @Test("Challenges are known and unique")
    func challenges() {
        #expect(
            problems("names: [a.test]\nchallenge: [http-01, http-1, http-01, dns-01, [x]]") == [
                #"F:4: acme.challenge[1]: "http-1" is not known. Did you mean http-01? Write one of http-01, tls-alpn-01, dns-01."#,
                "F:4: acme.challenge[2]: http-01 is listed twice. Keep one of the two.",
                "F:4: acme.challenge[3]: dns-01 needs a hook. Set acme.dns.hook (a URL) or acme.dns.exec (a program), which change the DNS.",
                "F:4: acme.challenge[4]: is a list, not a challenge. Write [http-01, tls-alpn-01].",
            ]
        )
        #expect(
            problems("names: [a.test]\nchallenge: []") == [
                "F:4: acme.challenge: is empty. Give at least one, or remove the key."
            ]
        )
    }

    @Test("CAs are https URLs and unique")
    func authorities() {
        let remedy = "Write https://HOST/PATH, without a user; http only to 127.0.0.1, [::1] and localhost."
        #expect(
            problems(
                """
                names: [a.test]
                ca:
                - letsencrypt
                - https://acme-v02.api.letsencrypt.org/directory
                - lets-encrypt
                - http://ca.test/dir
                - http://x.localhost/dir
                - https://me:pw@ca.test/dir
                - http://127.0.0.1:14000/dir
                - [https://ca.test/dir]
                - {ca_bundle: nowhere.pem}
                - {directory: https://b.test, eab: {kid: x}, url: 1}
                """
            ) == [
                "F:6: acme.ca[1]: https://acme-v02.api.letsencrypt.org/directory is already listed at F:5. Keep one of the two.",
                #"F:7: acme.ca[2]: "lets-encrypt" is not a known CA. Write the URL of its directory, or letsencrypt, letsencrypt-staging."#,
                #"F:8: acme.ca[3]: "http://ca.test/dir" is not an allowed URL. \#(remedy)"#,
                #"F:9: acme.ca[4]: "http://x.localhost/dir" is not an allowed URL. \#(remedy)"#,
                #"F:10: acme.ca[5]: "https://me:pw@ca.test/dir" is not an allowed URL. \#(remedy)"#,
                "F:12: acme.ca[7]: is a list, not a CA. Write a URL, letsencrypt, or a map with the key directory.",
                "F:13: acme.ca[8].directory: is missing. Add \"directory: …\".",
                #"F:13: acme.ca[8].ca_bundle: cannot read "nowhere.pem": No such file or directory. Name a file that this process may read."#,
                "F:14: acme.ca[9].eab.key: is missing, while kid is given. Give the HMAC key, or a key_file that holds it.",
                #"F:14: unknown key "url" in acme.ca[9]. Remove it. Known here: ca_bundle, directory, eab."#,
            ]
        )
    }

    @Test("An external account belongs to one CA and is complete")
    func externalAccounts() {
        let eab = "eab: {kid: me, key: AAAA}"
        #expect(problems("names: [a.test]\n\(eab)\nca: https://ca.test") == [])
        #expect(
            problems("names: [a.test]\n\(eab)\nca: [https://ca.test, letsencrypt]") == [
                "F:4: acme.eab: belongs to one CA, but acme.ca lists 2. Move it below that CA."
            ]
        )
        #expect(
            problems("names: [a.test]\n\(eab)\nca: {directory: https://ca.test, \(eab)}") == [
                "F:4: acme.eab: is given here and below the CA. Keep one of the two."
            ]
        )
        #expect(
            problems("names: [a.test]\neab: {key: AAAA}") == [
                "F:4: acme.eab.kid: is missing, while key is given. Give the key id that belongs to the key."
            ]
        )
    }

    @Test("A CA bundle contains certificates")
    func bundles() {
        file.write("empty.pem", "hello\n")
        let what = #"ca_bundle: "empty.pem" holds no certificates. Name a PEM file with the roots of that server."#
        #expect(problems("names: [a.test]\nca_bundle: empty.pem") == ["F:4: acme.\(what)"])
        #expect(
            problems("names: [a.test]\ndns: {hook: https://dns.test, ca_bundle: empty.pem}") == [
                "F:4: acme.dns.\(what)"
            ]
        )
    }

    @Test("There is at most one hook, and its keys need a hook")
    func hooks() {
        file.write("hook", "", mode: 0o700)
        file.write("plain", "", mode: 0o600)
        #expect(
            problems("names: [a.test]\ndns: {hook: https://dns.test, exec: hook}") == [
                "F:4: acme.dns.exec: is set, and so is hook (F:4). Keep one of the two."
            ]
        )
        #expect(
            problems("names: [a.test]\ndns: {exec: hook, hook_token: x, propagation: 6m}") == [
                #"F:4: acme.dns.propagation: "6m" is out of range. Write a duration from 0s to 5m."#,
                "F:4: acme.dns.hook_token: has no effect without hook. Set hook, or remove it.",
            ]
        )
        #expect(
            problems("names: [a.test]\ndns: {propagation: 1m}") == [
                "F:4: acme.dns.propagation: has no effect without hook or exec. Set hook or exec, or remove it."
            ]
        )
        #expect(
            problems("names: [a.test]\ndns: {exec: .}") == [
                #"F:4: acme.dns.exec: cannot run ".": it is not a file. Name a program that this process may run."#
            ]
        )
        #expect(
            problems("names: [a.test]\ndns: {hook: 'https://dns.test/?key=1'}") == [
                #"F:4: acme.dns.hook: "https://dns.test/?key=1" has a query. Write the URL below which "present" and "cleanup" are."#
            ]
        )
    }

    @Test("Hosts on demand are names and patterns, with a rate limit")
    func onDemand() {
        #expect(
            problems("on_demand:\n  hosts: [192.0.2.1, \"*\", a.test]\n  per_minute: 0") == [
                #"F:4: acme.on_demand.hosts[0]: "192.0.2.1" is an address, which no client asks for by name. Put it into acme.names."#,
                #"F:4: acme.on_demand.hosts[1]: "*" would take every host. Write a host such as app.example.com or *.example.com."#,
                #"F:5: acme.on_demand.per_minute: "0" is out of range. Write a whole number from 1 to 1000."#,
            ]
        )
    }

    @Test("E-mail addresses are plain addresses")
    func contacts() {
        let remedy = "Write it plainly, as in admin@example.com."
        #expect(
            problems(
                "names: [a.test]\nemail: [mailto:a@b.test, a, a@b@c.test, 'a b@c.test', \"a@b.test?x=y\", ok@b.test]"
            )
                == [
                    "mailto:a@b.test", "a", "a@b@c.test", "a b@c.test", "a@b.test?x=y",
                ].enumerated().map { "F:4: acme.email[\($0)]: \"\($1)\" is not an e-mail address. \(remedy)" }
        )
    }

    @Test("Unknown keys are reported with a suggestion")
    func unknown() {
        #expect(
            problems("names: [a.test]\nchallenges: http-01\non_demand: {host: x}") == [
                #"F:4: unknown key "challenges" in acme. Did you mean challenge?"#,
                #"F:5: unknown key "host" in acme.on_demand. Did you mean hosts?"#,
            ]
        )
    }
}
