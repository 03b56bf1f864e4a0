import Formats
import Settings
import Testing

@Suite struct ScalarsTests {
    private enum Format: String, CaseIterable, Sendable { case auto, json, text }

    /// The value, or the text of the error.
    private func result<Value>(_ parse: () throws(FormatError) -> Value) -> String {
        do throws(FormatError) {
            return "\(try parse())"
        } catch {
            return "! \(error.what)"
        }
    }

    @Test(
        "Durations need units, and errors state the reason",
        arguments: [
            ("250ms", "0.25 seconds"), ("10s", "10.0 seconds"), ("5m", "300.0 seconds"), ("1h", "3600.0 seconds"),
            ("1h30m", "5400.0 seconds"), ("1d", "86400.0 seconds"), ("0s", "0.0 seconds"),
            ("1m250ms", "60.25 seconds"), ("10", "! \"10\" has no unit"), ("", "! \"\" has no unit"),
            ("s", "! \"s\" is not a duration"), ("1.5s", "! \"1.5s\" is not a duration"),
            ("-1s", "! \"-1s\" is not a duration"), ("10 s", "! \"10 s\" is not a duration"),
            ("30m1h", "! \"30m1h\" is not a duration"), ("1s1s", "! \"1s1s\" is not a duration"),
            ("10S", "! \"10S\" is not a duration"), ("1h5", "! \"1h5\" is not a duration"),
            ("٣s", "! \"٣s\" is not a duration"),
            ("9223372036854775807d", "! \"9223372036854775807d\" is too long"),
            ("99999999999999999999s", "! \"99999999999999999999s\" is not a duration"),
            ("2d", "! \"2d\" is out of range"),
        ]
    )
    func duration(_ text: String, _ expected: String) {
        #expect(
            result { () throws(FormatError) in try Scalars.duration(text, in: .zero ... .seconds(86_400)) } == expected
        )
    }

    @Test("A formatted duration can be parsed")
    func durationRoundTrip() throws {
        for milliseconds in [0, 1, 250, 999, 1000, 59_999, 60_000, 3_600_000, 5_400_001, 86_400_000, 90_061_001] {
            let duration = Duration.milliseconds(milliseconds)
            #expect(try Scalars.duration(Scalars.format(duration), in: .zero ... .seconds(1_000_000)) == duration)
        }
        #expect(Scalars.format(.seconds(5400)) == "1h30m")
        #expect(Scalars.format(.zero) == "0s")
    }

    @Test(
        "Listen addresses",
        arguments: [
            ("0.0.0.0:8443", "0.0.0.0:8443"), (":8443", "0.0.0.0:8443"), ("[::1]:8443", "[::1]:8443"),
            ("[0:0:0:0:0:0:0:1]:1", "[::1]:1"), ("localhost:0", "localhost:0"), ("LOCALHOST:1", "localhost:1"),
            ("8443", "! \"8443\" does not begin with a host name or address"),
            ("127.0.0.1", "! \"127.0.0.1\" has no port"),
            ("127.0.0.1:", "! port \"\" is not a number from 0 to 65535"),
            ("127.0.0.1:65536", "! port \"65536\" is not a number from 0 to 65535"),
            ("127.0.0.1:+1", "! port \"+1\" is not a number from 0 to 65535"),
            ("127.0.0.1:http", "! port \"http\" is not a number from 0 to 65535"),
            ("::1:8443", "! \"::1:8443\" needs brackets around an IPv6 address"), ("[::1]", "! \"[::1]\" has no port"),
            ("[::1", "! \"[::1\" has no closing bracket"), ("[::1]8443", "! \"[::1]8443\" has text after its bracket"),
            ("[127.0.0.1]:1", "! \"[127.0.0.1]:1\" has no IPv6 address in its brackets"),
            ("fe80::1:8443", "! \"fe80::1:8443\" needs brackets around an IPv6 address"),
            ("10.0.0:80", "! \"10.0.0:80\" does not begin with a host name or address"),
            ("1.2.3.4.5:80", "! \"1.2.3.4.5:80\" does not begin with a host name or address"),
            ("http://0.0.0.0:80", "! \"http://0.0.0.0:80\" is a URL or path, not a host and port"),
            ("a b:1", "! \"a b:1\" does not begin with a host name or address"),
            ("", "! \"\" does not begin with a host name or address"),
        ]
    )
    func listen(_ text: String, _ expected: String) {
        #expect(result { () throws(FormatError) in try ListenAddress.parse(text) } == expected)
    }

    @Test("Listeners collide on one port with the same address or a wildcard, never on port 0")
    func collisions() throws {
        func collide(_ a: String, _ b: String) throws -> Bool {
            try ListenAddress.parse(a).collides(with: ListenAddress.parse(b))
        }
        #expect(try collide(":80", "127.0.0.1:80"))
        #expect(try collide("[::]:80", "10.0.0.1:80"))
        #expect(try collide("10.0.0.1:80", "10.0.0.1:80"))
        #expect(try !collide("10.0.0.1:80", "10.0.0.2:80"))
        #expect(try !collide(":80", ":81"))
        #expect(try !collide(":0", ":0"))
    }

    @Test(
        "Whole numbers",
        arguments: [
            ("1", "1"), ("010", "10"), ("-5", "-5"), ("", "! \"\" is not a whole number"),
            ("-", "! \"-\" is not a whole number"), ("1.0", "! \"1.0\" is not a whole number"),
            ("0x10", "! \"0x10\" is not a whole number"), ("1e3", "! \"1e3\" is not a whole number"),
            ("+1", "! \"+1\" is not a whole number"), ("101", "! \"101\" is out of range"),
            ("99999999999999999999", "! \"99999999999999999999\" is out of range"),
        ]
    )
    func ints(_ text: String, _ expected: String) {
        #expect(result { () throws(FormatError) in try Scalars.int(text, in: -10...100) } == expected)
    }

    @Test(
        "Sizes need units",
        arguments: [
            ("64KiB", "65536"), ("1mib", "1048576"), ("10MB", "10000000"), ("512B", "512"),
            ("64", "! \"64\" has no unit"),
            ("64K", "! \"64K\" is not a size"), ("KiB", "! \"KiB\" is not a size"),
            ("9223372036854775807GiB", "! \"9223372036854775807GiB\" is out of range"),
            ("1B", "! \"1B\" is out of range"),
        ]
    )
    func sizes(_ text: String, _ expected: String) {
        #expect(result { () throws(FormatError) in try Scalars.size(text, in: 512...(1 << 30)) } == expected)
    }

    @Test("Only true and false are booleans")
    func bools() {
        #expect(result { () throws(FormatError) in try Scalars.bool("true") } == "true")
        #expect(result { () throws(FormatError) in try Scalars.bool("False") } == "false")
        #expect(result { () throws(FormatError) in try Scalars.bool("yes") } == "! \"yes\" is neither true nor false")
    }

    @Test("An unknown choice suggests a similar one")
    func choices() {
        #expect(throws: FormatError("\"jsno\" is not known", "Did you mean json? Write one of auto, json, text.")) {
            try Scalars.choice("jsno", of: Format.self)
        }
    }

    @Test("Loopback is 127/8, ::1 and localhost, and no similar text")
    func loopback() {
        for host in ["127.0.0.1", "127.255.0.9", "::1", "localhost"] {
            #expect(HostPort(host: host, port: 1).isLoopback)
        }
        for host in ["127.0.0.1.example.com", "127.example", "0.0.0.0", "10.0.0.1", "localhost.example", "::"] {
            #expect(!HostPort(host: host, port: 1).isLoopback)
        }
    }
}
