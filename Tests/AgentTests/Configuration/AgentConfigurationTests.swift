import Agent
import Glibc
import HopProtocol
import NIOCore
import Observability
import Settings
import TestSupport
import Testing

@Suite struct AgentConfigurationTests {
    private static let token = "hgt_id1.TOPSECRET"
    /// The flags that an agent requires.
    private static let minimum = ["gateway": "gw.test", "service": "http=8080", "token": token]

    private let folder = ScratchFolder()

    private func load(
        _ yaml: String? = nil,
        environment: [String: String] = [:],
        flags: [String: String] = [:]
    ) throws(SettingsError) -> AgentConfiguration {
        let file = yaml.map { folder.write("agent.yaml", $0) }
        return try AgentConfiguration.load(file: file, environment: environment, flags: flags)
    }

    /// The lines of the error, with the file's name replaced by `F`.
    private func problems(
        _ yaml: String? = nil,
        environment: [String: String] = [:],
        flags: [String: String] = [:]
    ) -> [String] {
        let file = yaml.map { folder.write("agent.yaml", $0) }
        do throws(SettingsError) {
            _ = try AgentConfiguration.load(file: file, environment: environment, flags: flags)
            return []
        } catch {
            return error.description.split(separator: "\n").map { String($0).replacing(file ?? "F", with: "F") }
        }
    }

    @Test("Flags alone are sufficient")
    func flags() throws {
        let configuration = try load(environment: ["POD_NAME": "web-7f9-x"], flags: Self.minimum)
        #expect(configuration.gateways == [HostPort(host: "gw.test", port: 8443)])
        #expect(configuration.token == AgentToken(id: "id1", secret: "TOPSECRET"))
        #expect(configuration.name == "web-7f9-x")
        #expect(
            configuration.services == [
                ServiceDefinition(name: "http", target: HostPort(host: "127.0.0.1", port: 8080))
            ]
        )
        #expect(configuration.hosts.isEmpty)
        #expect(configuration.trust == .system)
        #expect(configuration.serverName == nil)
        #expect(configuration.opsListen == ListenAddress(host: "127.0.0.1", port: 9095))
        #expect(!configuration.opsListenIsExplicit)
        #expect(configuration.maxRequests == 1000)
        #expect(configuration.shutdownGrace == .seconds(30))
    }

    @Test("Without a pod the agent has the machine's name")
    func hostName() throws {
        var buffer = [CChar](repeating: 0, count: 256)
        #expect(gethostname(&buffer, 255) == 0)
        let host = String(decoding: buffer.prefix { $0 != 0 }.map(UInt8.init(bitPattern:)), as: UTF8.self)
        #expect(try load(flags: Self.minimum).name == host)
    }

    @Test("Every key is read")
    func everything() throws {
        let ca = folder.write("ca.pem", "x")
        let configuration = try load(
            """
            gateways: [gw1.test, "gw2.test:443", "[2001:db8::1]:8443"]
            token: \(Self.token)
            name: web-1
            services:
              web: 8080
              api: 127.0.0.1:9000
              six: "[::1]:9001"
              far: backend.internal:80
            target_hosts: [backend.internal]
            hosts: [App.test, "*.app.test"]
            trust:
              ca_file: \(ca)
            server_name: Gateway.test
            ops_listen: :9095
            max_requests: 20
            log_level: warning
            log_format: text
            shutdown_grace: 5s
            """
        )
        #expect(configuration.gateways.map(\.description) == ["gw1.test:8443", "gw2.test:443", "[2001:db8::1]:8443"])
        #expect(configuration.name == "web-1")
        #expect(
            configuration.services.map { "\($0.name) \($0.target)" } == [
                "web 127.0.0.1:8080", "api 127.0.0.1:9000", "six [::1]:9001", "far backend.internal:80",
            ]
        )
        #expect(configuration.targetHosts == ["backend.internal"])
        #expect(configuration.hosts == ["app.test", "*.app.test"])
        #expect(configuration.trust == .caFile(path: ca))
        #expect(configuration.serverName == "gateway.test")
        #expect(configuration.opsListen == ListenAddress(host: "0.0.0.0", port: 9095))
        #expect(configuration.opsListenIsExplicit)
        #expect(configuration.maxRequests == 20)
        #expect("\(configuration.logLevel)" == "warning")
        #expect(configuration.logFormat == .text)
        #expect(configuration.shutdownGrace == .seconds(5))
    }

    @Test("Variables alone are sufficient, with the token in a file")
    func environment() throws {
        let secret = folder.write("token", Self.token + "\n")
        let configuration = try load(environment: [
            "HOPAGENT_GATEWAYS": "gw1.test,gw2.test:1", "HOPAGENT_TOKEN_FILE": secret,
            "HOPAGENT_SERVICES": "web=8080,api=localhost:9000", "HOPAGENT_HOSTS": "a.test",
            "HOPAGENT_TRUST_PIN": "sha256:" + String(repeating: "aB", count: 32), "HOPAGENT_OPS_LISTEN": "off",
        ])
        #expect(configuration.gateways.count == 2)
        #expect(configuration.token.secret == "TOPSECRET")
        #expect(configuration.services.map(\.target.description) == ["127.0.0.1:8080", "localhost:9000"])
        #expect(configuration.trust == .pin(sha256: [UInt8](repeating: 0xAB, count: 32)))
        #expect(configuration.opsListen == nil)
    }

    @Test("Gateways and trust beside a join file win over what the file holds later")
    func explicitOverJoinFile() throws {
        let path = folder.write("join", Self.join())
        let pin = "sha256:" + String(repeating: "ab", count: 32)
        let flags = ["service": "a=1", "join-file": path, "gateway": "other.test:1", "pin": pin]
        let file = IdentityFile(key: "join_file", path: path, definesGateways: false, definesTrust: false)
        #expect(try load(flags: flags).identityFile == file)
    }

    @Test("Missing settings are reported with all ways to set them")
    func missing() {
        #expect(
            problems() == [
                #"token: is missing, and so is join. Set "token" in the file, HOPAGENT_TOKEN or --token; or "join" in the file, HOPAGENT_JOIN or --join, which brings gateways and trust with it."#,
                #"gateways: is missing. Set "gateways" in the file, HOPAGENT_GATEWAYS or --gateway."#,
                #"services: is missing. Set "services" in the file, HOPAGENT_SERVICES or --service."#,
            ]
        )
    }

    private static let pin = (0..<32).map { UInt8($0) }
    private static func join(
        _ gateways: [String] = ["gw.test:443", "[2001:db8::1]:8443"],
        pin: [UInt8]? = pin
    ) -> String {
        JoinString(gateways: gateways, pin: pin, token: token).text
    }

    @Test(
        "A join string contains gateways, trust and token",
        arguments: ["flag", "variable", "variable file", "key", "file"]
    )
    func joined(_ way: String) throws {
        let secret = folder.write("join", "\n  \(Self.join())\r\n\n")
        var flags = ["service": "http=8080"]
        var environment: [String: String] = [:]
        var yaml: String?
        switch way {
        case "flag": flags["join"] = Self.join()
        case "variable": environment["HOPAGENT_JOIN"] = Self.join()
        case "variable file": environment["HOPAGENT_JOIN_FILE"] = secret
        case "key": yaml = "join: \(Self.join())"
        default: yaml = "join_file: \(secret)"
        }
        let configuration = try load(yaml, environment: environment, flags: flags)
        #expect(configuration.gateways.map(\.description) == ["gw.test:443", "[2001:db8::1]:8443"])
        #expect(configuration.token == AgentToken(id: "id1", secret: "TOPSECRET"))
        #expect(configuration.trust == .pin(sha256: Self.pin))
        let file = IdentityFile(key: "join_file", path: secret, definesGateways: true, definesTrust: true)
        #expect(configuration.identityFile == (way.hasSuffix("file") ? file : nil))
        let summary = try AgentConfiguration.check(
            file: nil,
            environment: [:],
            flags: flags.merging(["join": Self.join()]) { $1 }
        )
        #expect(!summary.contains("TOPSECRET") && !summary.contains("hgj_") && summary.contains("gw.test:443"))
    }

    @Test("Other settings win over a join string")
    func explicitOverJoin() throws {
        var flags = ["service": "http=8080", "join": Self.join()]
        #expect(try load(flags: ["service": "a=1", "join": Self.join(pin: nil)]).trust == .system)
        flags["gateway"] = "other.test:1"
        var configuration = try load(flags: flags)
        #expect(configuration.gateways.map(\.description) == ["other.test:1"])
        #expect(configuration.trust == .pin(sha256: Self.pin))
        configuration = try load(
            "gateways: [third.test]\ntrust: {system: true}",
            flags: ["service": "a=1", "join": Self.join()]
        )
        #expect(configuration.gateways.map(\.description) == ["third.test:8443"])
        #expect(configuration.trust == .system)
    }

    @Test("A token beside a join string is reported with both places, and an invalid join string without its text")
    func badJoins() {
        let both = problems(
            "join: \(Self.join())",
            environment: ["HOPAGENT_TOKEN": Self.token],
            flags: ["service": "a=1"]
        )
        #expect(
            both == [
                "F:1: join: is given (F:1), and so is token (HOPAGENT_TOKEN). Keep one of the two: a join string contains a token."
            ]
        )
        let whole = Self.join()
        for text in [String(whole.dropLast()), String(whole.prefix(60)), Self.token, "hgj_", "nonsense", whole + "=="] {
            let lines = problems(flags: ["service": "a=1", "join": text])
            #expect(lines.count == 1 && lines[0].hasPrefix("--join: join: "), "\(lines)")
            #expect(!lines.joined().contains("TOPSECRET") && !lines.joined().contains("hgj_eyJ"))
        }
        let odd = problems(flags: ["service": "a=1", "join": Self.join(["not//a:gateway"])])
        #expect(odd.count == 1 && odd[0].contains("--gateway HOST:PORT"))
        // A join string in the place of a path is not repeated either.
        let path = problems(environment: ["HOPAGENT_JOIN_FILE": whole], flags: ["service": "a=1"])
        #expect(path.count == 1 && path[0].contains("\"hgj_…\""))
    }

    @Test("All mistakes are reported at once, with line, key, reason and remedy")
    func golden() {
        let yaml = """
            gateways:
              - https://gw.test
              - gw.test
              - GW.test:8443
            tokn: \(Self.token)
            token: not-a-token
            name: a b
            services:
              web: 99999
              api: 10.0.0.1:80
              url: http://127.0.0.1:80
              bad name: 80
            hosts: ["*"]
            trust:
              pin: md5:00
              system: false
            server_name: a/b
            max_requests: 0
            """
        #expect(
            problems(yaml, environment: ["HOPAGENT_SERVICE": "x"]) == [
                #"F:2: gateways[0]: "https://gw.test" is a URL or path, not a host and port. Write HOST or HOST:PORT, as in gateway.example.com:8443."#,
                #"F:4: gateways[1]: gw.test:8443 is already listed at F:3. Keep one of the two."#,
                #"F:5: unknown key "tokn". Did you mean token?"#,
                #"F:6: token: does not begin with "hgt_". Copy the whole line that "hopgate token create" printed."#,
                #"F:7: name: "a b" is not a name. Use 1 to 253 letters, digits, "-", "_" and ".", beginning with a letter or digit."#,
                #"F:9: services.web: port "99999" is not a number from 1 to 65535. Write a port or HOST:PORT, as in 8080 or 127.0.0.1:8080."#,
                #"F:10: services.api: "10.0.0.1:80" is not on this host's loopback address. If it is intended, list "10.0.0.1" under target_hosts, or give --target-hosts 10.0.0.1."#,
                #"F:11: services.url: "http://127.0.0.1:80" is a URL or path, not a host and port. Write a port or HOST:PORT, as in 8080 or 127.0.0.1:8080."#,
                #"F:12: services.bad name: "bad name" is not a name. Use 1 to 63 letters, digits, "-", "_" and ".", beginning with a letter or digit."#,
                ##"F:13: hosts[0]: "*" would take every host. Write a host such as app.example.com or *.example.com."##,
                #"F:15: trust.pin: "md5:00" does not begin with "sha256:". Write sha256: and 64 hexadecimal digits."#,
                "F:16: trust.system: false is not a kind of trust. Remove it, and give ca_file or pin instead.",
                #"F:17: server_name: "a/b" is not a host name. Write the name in the gateway's certificate."#,
                #"F:18: max_requests: "0" is out of range. Write a whole number from 1 to 100000."#,
                "HOPAGENT_SERVICE: no such setting. Did you mean HOPAGENT_SERVICES?",
            ]
        )
    }

    @Test("A source may name one trust; a stronger source replaces it")
    func trust() throws {
        let pin = "sha256:" + String(repeating: "00", count: 32)
        var flags = Self.minimum
        #expect(
            problems("trust: {system: true, pin: \"\(pin)\"}", flags: flags) == [
                "F:1: trust.system: pin is given as well (F:1). Keep one of ca_file, pin and system."
            ]
        )
        flags["pin"] = pin
        #expect(try load("trust: {system: true}", flags: flags).trust == .pin(sha256: [UInt8](repeating: 0, count: 32)))
        flags["ca-file"] = "/nonexistent"
        #expect(
            problems(flags: flags) == [
                #"--ca-file: trust.ca_file: cannot read "/nonexistent": No such file or directory. Name a file that this process may read."#
            ]
        )
    }

    @Test("A pin may be written as openssl prints it")
    func pinWithColons() throws {
        var flags = Self.minimum
        flags["pin"] = "SHA256:" + Array(repeating: "0F", count: 32).joined(separator: ":")
        #expect(try load(flags: flags).trust == .pin(sha256: [UInt8](repeating: 0x0F, count: 32)))
    }

    @Test(
        "A token that is truncated, wrapped or of another kind is refused and never repeated",
        arguments: [
            "TOPSECRET", "hgt_TOPSECRET", "hgt_id.", "hgt_.TOPSECRET", "hgt_a.TOPSECRET.b", "hgt_a.TOPSECRET b",
            "hgt_a.TOPSECRET\nx", "'hgt_a.TOPSECRET'",
        ]
    )
    func badTokens(_ token: String) {
        for lines in [
            problems(environment: ["HOPAGENT_TOKEN": token], flags: ["gateway": "a", "service": "a=1"]),
            problems(flags: Self.minimum.merging(["token": token]) { $1 }),
        ] {
            #expect(lines.count == 1)
            #expect(!lines.joined().contains("TOPSECRET"), "\(lines)")
        }
    }

    @Test("No way of printing the configuration shows the secret")
    func redaction() throws {
        let configuration = try load(flags: Self.minimum)
        var dumped = ""
        dump(configuration, to: &dumped)
        let summary = try AgentConfiguration.check(file: nil, environment: [:], flags: Self.minimum)
        for text in ["\(configuration)", String(reflecting: configuration), dumped, summary, "\(configuration.token)"] {
            #expect(!text.contains("TOPSECRET"))
        }
        #expect(summary.contains("(set, not shown)"))
        #expect("\(configuration.token)" == "hgt_id1.…")
    }

    @Test("A token in the place of a path is not repeated either")
    func tokenAsPath() {
        let lines = problems(
            environment: ["HOPAGENT_TOKEN_FILE": Self.token],
            flags: ["gateway": "gw.test", "service": "a=1"]
        )
        #expect(
            lines == [
                #"HOPAGENT_TOKEN_FILE: token: cannot read "hgt_…": No such file or directory. This must be a path; the value itself goes into HOPAGENT_TOKEN."#
            ]
        )
    }
}
