import Certificates
import Cluster
import Gateway
import Glibc
import NIOCore
import Observability
import Settings
import TestSupport
import Testing

@Suite struct GatewayConfigurationTests {
    private let folder = ScratchFolder()

    private func load(
        _ yaml: String? = nil,
        environment: [String: String] = [:],
        flags: [String: String] = [:]
    ) throws(SettingsError) -> GatewayConfiguration {
        let file = yaml.map { folder.write("gateway.yaml", $0) }
        return try GatewayConfiguration.load(file: file, environment: environment, flags: flags)
    }

    /// The lines of the error, in which the file is called `F`.
    private func problems(
        _ yaml: String? = nil,
        environment: [String: String] = [:],
        flags: [String: String] = [:]
    ) -> [String] {
        let file = yaml.map { folder.write("gateway.yaml", $0) }
        do throws(SettingsError) {
            _ = try GatewayConfiguration.load(file: file, environment: environment, flags: flags)
            return []
        } catch {
            return error.description.split(separator: "\n").map { String($0).replacing(file ?? "F", with: "F") }
        }
    }

    @Test("Files with keys that other users may read are logged with the remedy")
    func readableSecrets() async throws {
        let keys = folder.write("the keys", String(repeating: "1", count: 64), mode: 0o644)
        let token = folder.write("token", String(repeating: "a", count: 64), mode: 0o640)
        let configuration = try load("cluster_key_file: \(keys)\nadmin_token_file: \(token)\n")
        let log = try TestLog()
        await configuration.reportReadableSecrets(log.logger)
        let lines = try log.lines
        #expect(lines.count == 1 && lines[0].contains("secret file readable by other users"))
        for part in [#""level":"warning""#, "cluster_key_file", "0644", "chmod 600 '\(keys)'"] {
            #expect(lines.first?.contains(part) == true, "\(part)")
        }
    }

    @Test("An admin port on all addresses is a warning with the remedy")
    func openAdmin() throws {
        for (address, remedy) in [("0.0.0.0:9091", "127.0.0.1:9091"), ("[::]:9091", "[::1]:9091")] {
            let configuration = try load(flags: ["admin_listen": address])
            let log = try TestLog()
            configuration.reportOpenAdmin(log.logger)
            let lines = try log.lines
            #expect(lines.count == 1 && lines[0].contains("admin port reachable from other machines"))
            #expect(lines.first?.contains("set admin_listen to \(remedy)") == true, "\(lines)")
            #expect(configuration.openAdminWarning?.contains("set admin_listen to \(remedy)") == true)
        }
        for address in ["127.0.0.1:9091", "[::1]:9091", "10.0.0.7:9091"] {
            #expect(try load(flags: ["admin_listen": address]).openAdminWarning == nil)
        }
    }

    @Test("A gateway starts without any configuration")
    func defaults() throws {
        let configuration = try load(environment: ["HOME": "/home/u", "XDG_DATA_HOME": "/data"])
        #expect(configuration.httpsListen == ListenAddress(host: "0.0.0.0", port: 8443))
        #expect(configuration.dtlsListen == configuration.httpsListen)
        #expect(configuration.httpListen == ListenAddress(host: "0.0.0.0", port: 8080))
        #expect(configuration.opsListen == ListenAddress(host: "0.0.0.0", port: 9090))
        #expect(configuration.routes.isEmpty)
        #expect(configuration.certificates.isEmpty)
        #expect(configuration.loops == nil)
        #expect(configuration.timeouts == EdgeTimeouts())
        #expect(configuration == GatewayConfiguration(environment: ["HOME": "/home/u", "XDG_DATA_HOME": "/data"]))
    }

    @Test("The data folder is the system's if writable, else the user's")
    func dataDirectory() {
        let both = ["HOME": "/home/u", "XDG_DATA_HOME": "/data"]
        #expect(DataDirectory.standard(environment: both) { $0 == "/var/lib/hopgate" } == "/var/lib/hopgate")
        #expect(DataDirectory.standard(environment: both) { _ in false } == "/data/hopgate")
        #expect(
            DataDirectory.standard(environment: ["HOME": "/home/u", "XDG_DATA_HOME": "x"]) { _ in false }
                == "/home/u/.local/share/hopgate"
        )
        #expect(DataDirectory.standard(environment: [:]) { _ in false } == "/var/lib/hopgate")
    }

    @Test("Every key is read")
    func everything() throws {
        let cert = folder.write("cert.pem", "x")
        let key = folder.write("key.pem", "x")
        let configuration = try load(
            """
            http_listen: 127.0.0.1:80
            https_listen: "[::1]:443"
            dtls_listen: :4443
            ops_listen: localhost:0
            store:
              path: /srv/hopgate
            loops: 4
            log_level: debug
            log_format: json
            shutdown_grace: 75s
            timeouts:
              tls_handshake: 1s
              header: 2s
              body_idle: 3s
              keep_alive_idle: 4s
              response_head: 5s
              websocket_idle: 1h
            certificates:
              - cert: \(cert)
                key: \(key)
            development_ca: on
            routes:
              - host: App.Test
                to: demo/web
              - host: app.test
                path: /api/
                to: demo/api.v2
                strip_prefix: true
                timeout: 2m
              - {host: "*.app.test", to: demo/web}
            """
        )
        #expect(configuration.httpListen == ListenAddress(host: "127.0.0.1", port: 80))
        #expect(configuration.httpsListen == ListenAddress(host: "::1", port: 443))
        #expect(configuration.dtlsListen == ListenAddress(host: "0.0.0.0", port: 4443))
        #expect(configuration.opsListen == ListenAddress(host: "localhost", port: 0))
        #expect(configuration.store.path == "/srv/hopgate")
        #expect(configuration.loops == 4)
        #expect("\(configuration.logLevel)" == "debug")
        #expect(configuration.logFormat == .json)
        #expect(configuration.shutdownGrace == .seconds(75))
        var timeouts = EdgeTimeouts()
        timeouts.tlsHandshake = .seconds(1)
        timeouts.header = .seconds(2)
        timeouts.bodyIdle = .seconds(3)
        timeouts.keepAliveIdle = .seconds(4)
        timeouts.responseHead = .seconds(5)
        timeouts.webSocketIdle = .hours(1)
        #expect(configuration.timeouts == timeouts)
        #expect(configuration.certificates == [.init(certificate: cert, key: key)])
        #expect(configuration.developmentCA == .on && configuration.usesDevelopmentCA)
        #expect(
            configuration.routes == [
                Route(host: "app.test", agent: "demo", service: "web"),
                Route(
                    host: "app.test",
                    pathPrefix: "/api",
                    agent: "demo",
                    service: "api.v2",
                    stripPrefix: true,
                    timeout: .minutes(2)
                ),
                Route(host: "*.app.test", agent: "demo", service: "web"),
            ]
        )
    }

    @Test("Every key can be set by variables alone, routes as YAML text")
    func environment() throws {
        let configuration = try load(environment: [
            "HOPGATE_HTTPS_LISTEN": ":1443", "HOPGATE_TIMEOUTS_HEADER": "3s",
            "HOPGATE_ROUTES": "[{host: a.test, path: /x, to: demo/web}]", "HOPGATE_SERVICE_HOST": "10.0.0.1",
            "HOPGATE_PORT": "tcp://10.0.0.1:443",
        ])
        #expect(configuration.dtlsListen.port == 1443)
        #expect(configuration.timeouts.header == .seconds(3))
        #expect(configuration.routes == [Route(host: "a.test", pathPrefix: "/x", agent: "demo", service: "web")])
    }

    @Test("Flags win over variables over the file")
    func precedence() throws {
        let yaml = "https_listen: :1\nhttp_listen: :2\nops_listen: :3\n"
        let environment = ["HOPGATE_HTTP_LISTEN": ":20", "HOPGATE_OPS_LISTEN": ":30"]
        let configuration = try load(yaml, environment: environment, flags: ["ops-listen": ":300"])
        #expect(configuration.httpsListen.port == 1)
        #expect(configuration.httpListen.port == 20)
        #expect(configuration.opsListen.port == 300)
    }

    @Test("All errors are reported together, with line, key, reason and remedy")
    func golden() {
        let yaml = """
            http_lisen: :80
            ops_listen: 0.0.0.0:8443
            loops: 0
            log_level: verbose
            timeouts:
              header: 10
              tls_handshake: 0s
            certificates:
              - cert: /nonexistent.pem
            routes:
              - host: app.test
                to: demo/web
              - host: APP.test
                path: /
                to: demo/other
              - host: "*"
                path: api
                to: demo
              - host: b.test
                path: /a/../b
                to: de mo/web
                strip-prefix: true
              - host: b.test
                path: /api
                to: demo/web
                timeout: 0s
              - host: b.test
                path: /api/
                to: demo/web
            """
        #expect(
            problems(yaml, environment: ["HOPGATE_HTTPS_LSTEN": ":1"]) == [
                #"F:1: unknown key "http_lisen". Did you mean http_listen?"#,
                #"F:2: ops_listen: 0.0.0.0:8443 is also https_listen (default). Give each listener its own port."#,
                #"F:3: loops: "0" is out of range. Write a whole number from 1 to 256."#,
                #"F:4: log_level: "verbose" is not known. Write one of trace, debug, info, notice, warning, error, critical."#,
                #"F:6: timeouts.header: "10" has no unit. Write a number and its unit (ms, s, m, h, d), as in 250ms, 10s or 1h30m."#,
                #"F:7: timeouts.tls_handshake: "0s" is out of range. Write a duration from 100ms to 1d."#,
                #"F:9: certificates[0].cert: cannot read "/nonexistent.pem": No such file or directory. Name a file that this process may read."#,
                #"F:9: certificates[0].key: is missing. Add "key: …"."#,
                #"F:13: routes[1].host: "app.test/" is already routed at F:11. Keep one of the two."#,
                ##"F:16: routes[2].host: "*" would take every host. Write a host such as app.example.com or *.example.com."##,
                #"F:17: routes[2].path: "api" does not begin with "/". Write a plain path such as /api."#,
                #"F:18: routes[2].to: "demo" is not NAME/SERVICE. Write the token's name and the agent's service, as in demo/web."#,
                #"F:20: routes[3].path: "/a/../b" holds a dot segment. Write a plain path such as /api."#,
                #"F:21: routes[3].to: "de mo" is not a token's name. Use 1 to 63 lower-case letters, digits and "-"."#,
                #"F:22: unknown key "strip-prefix" in routes[3]. Did you mean strip_prefix?"#,
                #"F:26: routes[4].timeout: "0s" is out of range. Write a duration from 1ms to 1d."#,
                #"F:27: routes[5].host: "b.test/api" is already routed at F:23. Keep one of the two."#,
                "HOPGATE_HTTPS_LSTEN: no such setting. Did you mean HOPGATE_HTTPS_LISTEN?",
            ]
        )
    }

    @Test(
        "An ambiguous path prefix is rejected",
        arguments: [
            "", "api", "/a//b", "//", "/./a", "/a/..", "/a?b", "/a#b", "/%61", "/a b", "/a\\b", "/é", "/a\u{7F}",
        ]
    )
    func badPrefixes(_ path: String) {
        let yaml = "routes:\n  - host: a.test\n    to: a/b\n    path: \"\(path.replacing("\\", with: "\\\\"))\"\n"
        let lines = problems(yaml)
        #expect(lines.count == 1)
        #expect(lines.first?.hasPrefix("F:") == true)
    }

    @Test("Two listeners may not share a TCP port, but HTTPS and DTLS share their number")
    func collisions() {
        #expect(
            problems(flags: ["http-listen": ":9090"]) == [
                "--http-listen: http_listen: 0.0.0.0:9090 is also ops_listen (default). Give each listener its own port."
            ]
        )
        #expect(problems(flags: ["dtls-listen": ":8443", "http-listen": ":0", "ops-listen": ":0"]).isEmpty)
    }

    @Test("An unreadable file of routes is an error that names the variable and the path")
    func routesFile() {
        #expect(
            problems(environment: ["HOPGATE_ROUTES_FILE": "/nonexistent/routes"]) == [
                #"HOPGATE_ROUTES_FILE: routes: cannot read "/nonexistent/routes": No such file or directory. Name a file that this process may read."#
            ]
        )
    }

    @Test("The check prints every setting with its origin")
    func check() throws {
        let file = folder.write(
            "gateway.yaml",
            "store: {path: /d}\nroutes:\n  - {host: a.test, to: demo/web, timeout: 90s}\n"
        )
        let summary = try GatewayConfiguration.check(
            file: file,
            environment: ["HOPGATE_LOOPS": "2", "POD_NAME": "gateway-0"],
            flags: ["https-listen": ":1443"]
        )
        let rows = summary.replacing(file, with: "F").split(separator: "\n").map {
            $0.split(separator: " ", omittingEmptySubsequences: true).joined(separator: " ")
        }
        #expect(
            rows == [
                "http_listen 0.0.0.0:8080 default", "https_listen 0.0.0.0:1443 --https-listen",
                "dtls_listen 0.0.0.0:1443 default", "mesh_listen 0.0.0.0:7443 default",
                "ops_listen 0.0.0.0:9090 default", "admin_listen 127.0.0.1:9091 default",
                "mesh_advertise POD_IP, or an address of this machine default", "name gateway-0 default",
                "store.path /d F:1",
                "store.driver volume default", "store.cluster any default", "store.lease_ttl 15s default",
                "tunnel_addresses none default",
                "loops 2 HOPGATE_LOOPS",
                "log_level info default", "log_format auto default",
                "shutdown_grace 30s default", "timeouts.tls_handshake 10s default", "timeouts.header 10s default",
                "timeouts.body_idle 30s default", "timeouts.keep_alive_idle 1m default",
                "timeouts.response_head 30s default", "timeouts.websocket_idle 2m default",
                "certificates none default", "development_ca auto default", "acme not in use default",
                "routes[0] a.test/ to demo/web, timeout 1m30s F:3",
            ]
        )
    }
}
