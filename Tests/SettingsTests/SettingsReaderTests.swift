import Formats
import Settings
import TestSupport
import Testing

@Suite struct SettingsReaderTests {
    private let folder = ScratchFolder()

    /// The problems of reading `yaml` with `body`, one line each.
    private func problems(
        _ yaml: String? = nil,
        environment: [String: String] = [:],
        flags: [String: String] = [:],
        _ body: (SettingsScope) -> Void = { _ in }
    ) -> [String] {
        let file = yaml.map { folder.write("test.yaml", $0) }
        let reader = SettingsReader(prefix: "HOPTEST", file: file, environment: environment, flags: flags)
        body(reader.root)
        do throws(SettingsError) {
            try reader.finish()
            return []
        } catch {
            return folder.relative(error.description).split(separator: "\n").map(String.init)
        }
    }

    // MARK: Precedence

    @Test("A flag overrides a variable, that a file, and that the default, for every subset", arguments: 0..<8)
    func precedence(_ subset: Int) throws {
        for viaFile in [false, true] {
            let file = subset & 1 == 0 ? nil : folder.write("p.yaml", "grace: 1s\n")
            var environment: [String: String] = [:]
            if subset & 2 != 0 {
                if viaFile {
                    environment["HOPTEST_GRACE_FILE"] = folder.write("value", "2s\n")
                } else {
                    environment["HOPTEST_GRACE"] = "2s"
                }
            }
            let flags = subset & 4 == 0 ? [:] : ["grace": "3s"]
            let reader = SettingsReader(prefix: "HOPTEST", file: file, environment: environment, flags: flags)
            let setting = reader.root.duration("grace", default: .zero, in: .zero ... .seconds(60))
            try reader.finish()
            let expected = subset >= 4 ? 3 : subset >= 2 ? 2 : subset
            #expect(setting.value == .seconds(expected))
            #expect(setting.origin.rank == expected)
            #expect(reader.effective == [EffectiveSetting(key: "grace", shown: "\(expected)s", origin: setting.origin)])
        }
    }

    @Test("An invalid value is reported only if its source takes precedence")
    func shadowed() {
        // The flag takes precedence, so the variable's text is not parsed.
        let lines = problems("grace: never\n", environment: ["HOPTEST_GRACE": "1s"]) { root in
            #expect(root.duration("grace", default: .zero, in: .zero ... .seconds(60)).value == .seconds(1))
        }
        #expect(lines.isEmpty)
    }

    @Test("Keys of a section have variables and flags")
    func sections() {
        let lines = problems(
            "timeouts:\n  header: 1s\n  idle: 2s\n",
            environment: ["HOPTEST_TIMEOUTS_HEADER": "3s"],
            flags: ["--timeouts-body_idle": "4s"]
        ) { root in
            let section = root.section("timeouts")
            #expect(section.duration("header", default: .zero, in: .zero ... .seconds(60)).value == .seconds(3))
            #expect(section.duration("idle", default: .zero, in: .zero ... .seconds(60)).value == .seconds(2))
            #expect(section.duration("body_idle", default: .zero, in: .zero ... .seconds(60)).value == .seconds(4))
        }
        #expect(lines.isEmpty)
    }

    @Test("An empty variable is not set")
    func emptyVariable() {
        let lines = problems("n: 7", environment: ["HOPTEST_N": "", "HOPTEST_N_FILE": "", "HOPTEST_CONFIG": ""]) {
            root in
            #expect(root.int("n", default: 1, in: 0...10).value == 7)
        }
        #expect(lines.isEmpty)
    }

    @Test("The variable names the file if the caller does not")
    func configVariable() throws {
        let path = folder.write("c.yaml", "n: 5")
        let reader = SettingsReader(prefix: "HOPTEST", file: nil, environment: ["HOPTEST_CONFIG": path], flags: [:])
        #expect(reader.root.int("n", default: 1, in: 0...10).value == 5)
        try reader.finish()
    }

    // MARK: Messages

    @Test("All problems are reported at once, the file's by line, with key, reason and remedy")
    func golden() {
        let yaml = """
            # a file in which everything is wrong
            listn: 0.0.0.0:1
            grace: 10
            n: 99
            flag: yes
            gates: one
            timeouts:
              haeder: 1s
              header: soon
            routes:
              - host: a.example
                too: x
              - just text
              - to: y/z
            empty:
            n: 3
            """
        let lines = problems(
            yaml,
            environment: ["HOPTEST_LISTEM": "x", "HOPTEST_N_FILE": "/nonexistent/n", "OTHER": "x"],
            flags: ["grcae": "1s", "empty": ""]
        ) { root in
            _ = root.address("listen", default: ListenAddress(host: "::", port: 1))
            _ = root.duration("grace", default: .zero, in: .zero ... .seconds(60))
            _ = root.int("n", default: 1, in: 0...10)
            _ = root.bool("flag", default: false)
            _ = root.list("gates", parse: Scalars.string)
            _ = root.section("timeouts").duration("header", default: .zero, in: .zero ... .seconds(60))
            for item in root.maps("routes") {
                _ = item.required("host", parse: HostPattern.canonicalText)
                _ = item.required("to", parse: Scalars.string)
            }
            _ = root.string("empty", default: "x")
        }
        #expect(
            lines == [
                #"test.yaml:2: unknown key "listn". Did you mean listen?"#,
                #"test.yaml:3: grace: "10" has no unit. Write a number and its unit (ms, s, m, h, d), as in 250ms, 10s or 1h30m."#,
                #"test.yaml:5: flag: "yes" is neither true nor false. Write true or false."#,
                #"test.yaml:6: gates: is a single value, not a list. Write "- value" lines or [a, b]."#,
                #"test.yaml:8: unknown key "haeder" in timeouts. Did you mean header?"#,
                #"test.yaml:9: timeouts.header: "soon" is not a duration. Write a number and its unit (ms, s, m, h, d), as in 250ms, 10s or 1h30m."#,
                #"test.yaml:11: routes[0].to: is missing. Add "to: …"."#,
                #"test.yaml:12: unknown key "too" in routes[0]. Did you mean to?"#,
                #"test.yaml:13: routes[1]: is a single value, not a map. Write "- key: value"."#,
                #"test.yaml:14: routes[2].host: is missing. Add "host: …"."#,
                #"test.yaml:16: key "n" is already on line 4. Keep one of the two."#,
                #"HOPTEST_N_FILE: n: cannot read "/nonexistent/n": No such file or directory. Name a file that this process may read."#,
                #"--empty: empty: is empty. Give a value or remove the key."#,
                #"HOPTEST_LISTEM: no such setting. Did you mean HOPTEST_LISTEN?"#,
                #"--grcae: no such setting. Did you mean --grace?"#,
            ]
        )
    }

    @Test("A key without a value is a mistake, not the default")
    func noValue() {
        let lines = problems("grace:\n") { root in _ = root.string("grace", default: "x") }
        #expect(lines == ["test.yaml:1: grace: has no value. Give one or remove the key."])
    }

    @Test("The problem of an unknown key without a similar one lists the known keys")
    func unknownFar() {
        let lines = problems("zzz: 1") { root in
            _ = root.string("alpha", default: "x")
            _ = root.string("beta", default: "x")
        }
        #expect(lines == [#"test.yaml:1: unknown key "zzz". Remove it. Known here: alpha, beta."#])
    }

    @Test("The problem of a key with a dot names the section that it belongs in")
    func dottedKey() {
        let lines = problems("store.path: /x") { root in _ = root.string("store", default: "x") }
        #expect(lines == [#"test.yaml:1: unknown key "store.path". Write store: {path: …}."#])
    }

    @Test("A file that cannot be read or parsed is one problem; no setting is reported missing because of it")
    func brokenFile() {
        let body = { (root: SettingsScope) in _ = root.required("token", parse: Scalars.string) }
        #expect(
            problems("a: [1\nb: 2", body) == [
                "test.yaml:2: is not valid YAML: did not find expected ',' or ']'. Look at this line and the one above: indentation, quotes, colons."
            ]
        )
        #expect(
            problems("- a\n", body) == [#"test.yaml:1: the file is a list, not a map. Write keys, as in "key: value"."#]
        )
        let reader = SettingsReader(prefix: "HOPTEST", file: "/nonexistent.yaml", environment: [:], flags: [:])
        body(reader.root)
        #expect(
            throws: SettingsError(problems: [
                SettingsProblem(
                    origin: .flag(name: "--config"),
                    key: "",
                    what: "cannot read \"/nonexistent.yaml\": No such file or directory",
                    remedy: "Name a readable file."
                )
            ])
        ) { try reader.finish() }
    }

    @Test("A folder given as the file is reported as one")
    func folderAsFile() {
        let reader = SettingsReader(prefix: "HOPTEST", file: nil, environment: ["HOPTEST_CONFIG": "/tmp"], flags: [:])
        #expect(throws: SettingsError.self) { try reader.finish() }
        #expect(reader.root.origin == .fallback)
    }

    @Test("The problem of a missing setting lists all three ways to give it")
    func missing() {
        let lines = problems { root in _ = root.required("server_name", flag: "sni", parse: Scalars.string) }
        #expect(lines == [#"server_name: is missing. Set "server_name" in the file, HOPTEST_SERVER_NAME or --sni."#])
    }

    @Test("The number of reported problems is bounded")
    func manyProblems() throws {
        let yaml = (0..<20_000).map { "unknown_\($0): 1\n" }.joined()
        let lines = problems(yaml) { root in _ = root.string("known", default: "x") }
        #expect(lines.count == 51)
        #expect(lines.last == "and 19950 more")
    }

    @Test("A problem stays on one line for any name of a variable or of a map's item")
    func oneLine() {
        let lines = problems("map: {\"a\\nb\\e[1mc\": x}\n", environment: ["HOPTEST_A\nB\r": "1"]) { root in
            _ = root.map("map") { _, text throws(FormatError) in try Scalars.int(text, in: 0...9) }
        }
        #expect(
            lines == [
                #"test.yaml:1: map.a\nb\u{1b}[1mc: "x" is not a whole number. Write a whole number from 0 to 9."#,
                #"HOPTEST_A\nB\r: no such setting. Unset it."#,
            ]
        )
    }

    // MARK: Environment

    @Test(
        "Variables that Kubernetes sets for Services are ignored",
        arguments: [
            ("HOPTEST_SERVICE_HOST", "10.0.0.1"), ("HOPTEST_SERVICE_PORT", "443"),
            ("HOPTEST_SERVICE_PORT_HTTPS", "443"), ("HOPTEST_PORT", "tcp://10.0.0.1:443"),
            ("HOPTEST_PORT_443_TCP", "tcp://10.0.0.1:443"), ("HOPTEST_PORT_443_TCP_PROTO", "tcp"),
            ("HOPTEST_PORT_443_TCP_PORT", "443"), ("HOPTEST_PORT_443_TCP_ADDR", "10.0.0.1"),
            ("HOPTEST_AGENTS_SERVICE_HOST", "10.0.0.1"), ("HOPTEST_AGENTS_PORT_443_UDP_ADDR", "10.0.0.1"),
            ("HOPTEST_AGENTS_SERVICE_PORT_TUNNEL_UDP", "443"), ("HOPTEST_AGENTS_PORT", "udp://10.0.0.1:443"),
        ]
    )
    func serviceLinks(_ name: String, _ value: String) {
        #expect(problems(environment: [name: value]).isEmpty)
    }

    @Test(
        "Names that only resemble them are reported",
        arguments: [
            ("HOPTEST_PORT", "8443"), ("HOPTEST_HTTPS_PORT", "8443"), ("HOPTEST_PORT_443", "x"),
            ("HOPTEST_443_TCP", "x"),
            ("HOPTEST_SERVICES", "x"), ("HOPTEST_SERVICE_PORT_FOO", "x"), ("HOPTEST_", "x"),
            ("HOPTEST_PORT_x_TCP", "x"),
        ]
    )
    func notServiceLinks(_ name: String, _ value: String) {
        #expect(problems(environment: [name: value]) == ["\(name): no such setting. Unset it."])
    }

    @Test("Other programs' variables are ignored")
    func otherVariables() {
        #expect(problems(environment: ["HOPTESTER_X": "1", "PATH": "x", "hoptest_x": "1", "XHOPTEST_Y": "1"]).isEmpty)
    }

    // MARK: Values from files

    @Test(
        "One line break at the end of a value's file is removed, and nothing else",
        arguments: [("v", "v"), ("v\n", "v"), ("v\r\n", "v"), (" v ", " v ")]
    )
    func trailingNewline(_ content: String, _ expected: String) {
        let path = folder.write("v", content)
        let lines = problems(environment: ["HOPTEST_NAME_FILE": path]) { root in
            let setting = root.string("name", default: "x")
            #expect(setting.value == expected)
            #expect("\(setting.origin)" == "HOPTEST_NAME_FILE (\(path))")
        }
        #expect(lines.isEmpty)
    }

    @Test("A value's file that is empty, binary, too long, of two lines or a folder is a problem")
    func badFiles() {
        func fileProblems(_ path: String) -> [String] {
            problems(environment: ["HOPTEST_NAME_FILE": path]) { root in _ = root.string("name", default: "x") }
        }
        let empty = #"HOPTEST_NAME_FILE: name: "v" is empty. Write the value into it."#
        #expect(fileProblems(folder.write("v", "\n")) == [empty])
        #expect(fileProblems(folder.write("v", "")) == [empty])
        let binary = #"HOPTEST_NAME_FILE: name: the content of "v" is not text. Is this the right file?"#
        #expect(fileProblems(folder.write("v", [0xFF])) == [binary])
        #expect(fileProblems(folder.write("v", [0x61, 0, 0x62])) == [binary])
        #expect(
            fileProblems(folder.write("v", "a\nb\n")) == [
                #"HOPTEST_NAME_FILE (v): name: "a\nb" holds a line break or control character. Write it on one line."#
            ]
        )
        #expect(
            fileProblems(folder.write("v", [UInt8](repeating: 0x61, count: 70_000))) == [
                #"HOPTEST_NAME_FILE: name: cannot read "v": larger than 64 KiB. Name a file that this process may read."#
            ]
        )
        #expect(
            fileProblems("/tmp") == [
                #"HOPTEST_NAME_FILE: name: cannot read "/tmp": Is a directory. Name a file that this process may read."#
            ]
        )
    }

    @Test("A variable and its _FILE form exclude each other")
    func bothForms() {
        let lines = problems(environment: ["HOPTEST_NAME": "x", "HOPTEST_NAME_FILE": "/x"]) { root in
            _ = root.string("name", default: "x")
        }
        #expect(lines == ["HOPTEST_NAME: name: is set and so is HOPTEST_NAME_FILE. Keep one of the two."])
    }

    // MARK: Collections

    @Test("Lists and maps in variables: short form and YAML text")
    func collections() {
        let environment = [
            "HOPTEST_LIST": "a, b,,[::1]", "HOPTEST_YAMLLIST": "- a\n- b\n", "HOPTEST_FLOW": "[a, b]",
            "HOPTEST_MAP": "web=8080, api = 127.0.0.1:1", "HOPTEST_YAMLMAP": "{web: 8080}",
            "HOPTEST_ROUTES": "\n- host: a\n- host: b\n",
        ]
        let lines = problems(environment: environment) { root in
            let text = { (key: String) in root.list(key, parse: Scalars.string).map(\.value) }
            #expect(text("list") == ["a", "b", "[::1]"])
            #expect(text("yamllist") == ["a", "b"])
            #expect(text("flow") == ["a", "b"])
            let map = { (key: String) in
                root.map(key) { _, value throws(FormatError) in value }.map { "\($0.name)=\($0.value.value)" }
            }
            #expect(map("map") == ["web=8080", "api=127.0.0.1:1"])
            #expect(map("yamlmap") == ["web=8080"])
            let routes = root.maps("routes")
            #expect(routes.map { "\($0.origin)" } == ["HOPTEST_ROUTES line 2", "HOPTEST_ROUTES line 3"])
            #expect(routes.map { $0.string("host", default: "").value } == ["a", "b"])
        }
        #expect(lines.isEmpty)
    }

    @Test("Mistakes in lists and maps are reported by item")
    func collectionMistakes() {
        let yaml = "list:\n  - 1\n  - x\n  - [2]\n  -\nmap:\n  a: 1\n  b: x\nsection: 3\n"
        let lines = problems(yaml, environment: ["HOPTEST_SHORT": "a,b=1,b=2", "HOPTEST_ROUTES": "[{a: 1"]) { root in
            let int = { (text: String) throws(FormatError) in try Scalars.int(text, in: 0...9) }
            #expect(root.list("list", parse: int).map(\.value) == [1])
            #expect(root.map("map") { _, text throws(FormatError) in try Scalars.int(text, in: 0...9) }.count == 1)
            #expect(root.map("short") { _, text throws(FormatError) in text }.count == 1)
            #expect(root.maps("routes").isEmpty)
            _ = root.section("section")
        }
        #expect(
            lines == [
                #"test.yaml:3: list[1]: "x" is not a whole number. Write a whole number from 0 to 9."#,
                #"test.yaml:4: list[2]: is a list, not a single value. Write it as "key: value"."#,
                #"test.yaml:5: list[3]: has no value. Give one or remove the key."#,
                #"test.yaml:8: map.b: "x" is not a whole number. Write a whole number from 0 to 9."#,
                #"test.yaml:9: section: is a single value, not a map. Write keys below it, indented."#,
                #"HOPTEST_SHORT: short: "a" has no =. Write name=value, name=value."#,
                #"HOPTEST_SHORT: short: "b" is given twice. Keep one of the two."#,
                #"HOPTEST_ROUTES: routes: is not valid YAML: did not find expected ',' or '}'. Look at this line and the one above: indentation, quotes, colons."#,
            ]
        )
    }

    // MARK: Secrets and paths

    @Test("A secret may be in six places, precedence applies, and two forms from one source exclude each other")
    func secrets() {
        let path = folder.write("s", "from-file\n")
        func secret(
            _ yaml: String? = nil,
            _ environment: [String: String] = [:],
            _ flags: [String: String] = [:]
        ) -> (value: String?, lines: [String]) {
            var value: String?
            let lines = problems(yaml, environment: environment, flags: flags) { root in
                value = root.secret("token", parse: Scalars.string)?.value
            }
            return (value, lines)
        }
        #expect(secret("token: y") == ("y", []))
        #expect(secret("token_file: s") == ("from-file", []))
        #expect(secret("token: y", ["HOPTEST_TOKEN": "e"]) == ("e", []))
        #expect(secret("token: y", ["HOPTEST_TOKEN_FILE": path]) == ("from-file", []))
        #expect(secret("token: y", ["HOPTEST_TOKEN": "e"], ["token": "f"]) == ("f", []))
        #expect(secret("token: y", ["HOPTEST_TOKEN": "e"], ["token-file": path]) == ("from-file", []))
        #expect(
            secret("token: y\ntoken_file: s")
                == (nil, ["test.yaml:1: token: is given both itself and as a file. Keep one of the two."])
        )
        #expect(
            secret("a_secret: y\ntoken_file: gone").lines.contains(
                #"test.yaml:2: token: cannot read "gone": No such file or directory. Name a file that this process may read."#
            )
        )
    }

    @Test("A message never contains a secret that was put in a wrong place")
    func secretsStaySecret() {
        let secret = "hgt_abc.TOPSECRET"
        let body = { (root: SettingsScope) in
            _ = root.secret("token") { text throws(FormatError) -> String in
                throw FormatError("\(text) is wrong", "Change \(text).")
            }
            _ = root.int("n", default: 1, in: 0...9)
            _ = root.list("list") { text throws(FormatError) in try Scalars.int(text, in: 0...9) }
        }
        let attempts = [
            problems("token: \(secret)", body), problems("token: [\(secret)]", body), problems("n: \(secret)", body),
            problems("list: [\(secret)]", body), problems("\(secret): 1", body),
            problems(environment: ["HOPTEST_TOKEN": secret], body),
            problems(environment: ["HOPTEST_TOKEN_FILE": secret], body),
            problems(environment: ["HOPTEST_\(secret)": "1"], body),
            problems(environment: ["HOPTEST_LIST": "[\(secret)"], body),
            problems(flags: ["token-file": secret], body), problems(flags: ["token": secret], body),
        ]
        for lines in attempts {
            #expect(!lines.isEmpty)
            #expect(!lines.joined().contains("TOPSECRET"), "\(lines)")
        }
        #expect(
            problems(environment: ["HOPTEST_TOKEN_FILE": secret], body).first
                == #"HOPTEST_TOKEN_FILE: token: cannot read "hgt_…": No such file or directory. This must be a path; the value itself goes into HOPTEST_TOKEN."#
        )
    }

    @Test("Paths in the file are relative to the file, others are unchanged")
    func paths() {
        func path(_ yaml: String?, _ environment: [String: String] = [:]) -> String {
            var result = ""
            _ = problems(yaml, environment: environment) { root in result = root.path("dir", default: "/d").value }
            return folder.relative(result)
        }
        #expect(path("dir: sub/x") == "sub/x")
        #expect(path("dir: /abs") == "/abs")
        #expect(path(nil, ["HOPTEST_DIR": "rel"]) == "rel")
        #expect(path(nil) == "/d")
    }

    @Test("A file that must be readable is checked at once")
    func readable() {
        let lines = problems("cert: gone.pem\nkey: /tmp\n") { root in
            #expect(root.readableFile("cert", isRequired: true) == nil)
            #expect(root.readableFile("key", isRequired: true) == nil)
            #expect(root.readableFile("other", isRequired: false) == nil)
        }
        #expect(
            lines == [
                #"test.yaml:1: cert: cannot read "gone.pem": No such file or directory. Name a file that this process may read."#,
                #"test.yaml:2: key: cannot read "/tmp": Is a directory. Name a file that this process may read."#,
            ]
        )
    }

    @Test("The summary is a table of key, value and origin")
    func table() {
        let file = folder.write("t.yaml", "alpha: 1\n")
        let reader = SettingsReader(prefix: "HOPTEST", file: file, environment: ["HOPTEST_B": "x"], flags: [:])
        _ = reader.root.int("alpha", default: 0, in: 0...9)
        _ = reader.root.string("b", default: "x")
        _ = reader.root.duration("c", default: .seconds(90), in: .zero ... .seconds(100))
        #expect(
            folder.relative(reader.effective.table) == """
                alpha  1      t.yaml:1
                b      x      HOPTEST_B
                c      1m30s  default
                """
        )
    }
}
