import Formats
import Testing

@Suite("Host names, addresses and patterns")
struct HostTests {
    private static let names: [String] = {
        var texts = [
            "", ".", "a", "A.b", "a.", ".a", "a..b", "-a", "a-", "a.-b", "a-.b", "a_b", "_a", "_", "1", "a.1", "1.a",
            "-1",
            "1-1", "1_", "1.2.3.4", "::1", "[::1]", "a:1", "a/b", "\u{e4}.de", "a b", "a\u{0}", "x--y.z", "*.a",
            String(repeating: "a", count: 63), String(repeating: "a", count: 64),
            Array(repeating: "abcdefg", count: 32).joined(separator: "."), String(repeating: "a.", count: 125) + "bcd",
            String(repeating: "a.", count: 125) + "bcde",
        ]
        let letters = Array("ab1-_.A")
        for _ in 0..<20_000 {
            texts.append(String((0..<Int.random(in: 1...9)).map { _ in letters.randomElement()! }))
        }
        return texts
    }()

    /// The definition of a host name, label by label.
    private func isName(_ text: String) -> Bool {
        (1...253).contains(text.utf8.count)
            && text.split(separator: ".", omittingEmptySubsequences: false).allSatisfy { label in
                (1...63).contains(label.utf8.count) && label.first != "-" && label.last != "-"
                    && label.allSatisfy { $0.isASCII && ($0.isLetter || $0.isNumber || $0 == "-" || $0 == "_") }
            }
    }

    private func endsWithNumber(_ text: String) -> Bool {
        text.split(separator: ".", omittingEmptySubsequences: false).last?.allSatisfy(\.isNumber) == true
    }

    @Test("The syntax of a name follows from its labels")
    func names() {
        for text in Self.names {
            let syntax = DNSName.syntax(of: text.utf8)
            #expect((syntax != nil) == isName(text), "\(text)")
            guard let syntax else { continue }
            #expect(syntax.hasUppercaseLetter == text.contains(where: \.isUppercase), "\(text)")
            #expect(syntax.endsWithNumber == endsWithNumber(text), "\(text)")
            #expect(DNSName.isHostName(text) == !endsWithNumber(text), "\(text)")
        }
    }

    @Test("A pattern is a name or address, or a star and a name, in lower case")
    func canonicalPatterns() {
        for name in Self.names {
            for text in [name, "*.\(name)"] {
                let accepted = isName(name) && !endsWithNumber(name)
                // The random names include 1.1.1.1 and 11.111.1.1.
                let isAddress = text == "::1" || text.wholeMatch(of: /(1{1,3}|2|3|4)(\.(1{1,3}|2|3|4)){3}/) != nil
                let expected = accepted || isAddress ? text.lowercased() : name == "*.a" && text == name ? text : nil
                #expect((try? HostPattern(text))?.description == expected, "\(text)")
                #expect((try? HostPattern.canonicalText(text)) == expected, "\(text)")
            }
        }
    }

    @Test(
        "An invalid pattern is rejected with the problem",
        arguments: [
            ("App.Example.COM", "app.example.com"), ("*.example.com", "*.example.com"), ("localhost", "localhost"),
            ("127.0.0.1", "127.0.0.1"), ("2001:DB8:0::1", "2001:db8::1"), ("*", "! \"*\" would take every host"),
            ("*.*.com", "! \"*.*.com\" has a * that is not its first label"),
            ("a*.com", "! \"a*.com\" has a * that is not its first label"), ("*.", "! \"*.\" ends with a dot"),
            ("a.com.", "! \"a.com.\" ends with a dot"), ("a.com:80", "! \"a.com:80\" has a port"),
            ("https://a.com", "! \"https://a.com\" is a URL or path, not a host"),
            ("a..b", "! \"a..b\" is not a host name"), ("-a.b", "! \"-a.b\" is not a host name"),
            ("*.1.2", "! \"*.1.2\" is not a host name"), ("1.2.3", "! \"1.2.3\" is not a host name"),
            ("b\u{fc}cher.example", "! \"b\u{fc}cher.example\" is not ASCII"), ("", "! \"\" is not a host name"),
            (String(repeating: "a", count: 64), "! \"\(String(repeating: "a", count: 64))\" is not a host name"),
        ]
    )
    func errors(_ text: String, _ expected: String) {
        do throws(FormatError) {
            #expect(try HostPattern(text).description == expected)
        } catch {
            #expect("! \(error.what)" == expected)
        }
    }

    @Test("A pattern covers the hosts and patterns below it")
    func covers() throws {
        let below = try HostPattern("*.example.com")
        for text in ["a.example.com", "a.b.example.com", "*.example.com", "*.a.example.com"] {
            #expect(below.covers(try HostPattern(text)), "\(text)")
        }
        for text in ["example.com", "aexample.com", "*.com", "*.aexample.com", "a.example.org"] {
            #expect(!below.covers(try HostPattern(text)), "\(text)")
        }
        let exact = try HostPattern("a.example.com")
        #expect(exact.covers(exact) && !exact.covers(below))
        let deeper = try HostPattern("*.a.example.com")
        #expect(!exact.covers(deeper))
    }

    @Test("Addresses have one text each")
    func addresses() {
        #expect(IPAddressText.bytes("192.0.2.1") == [192, 0, 2, 1])
        #expect(IPAddressText.bytes("::1") == [UInt8](repeating: 0, count: 15) + [1])
        #expect(IPAddressText.text(of: [192, 0, 2, 1]) == "192.0.2.1")
        #expect(IPAddressText.bytes("2001:DB8::A").map { IPAddressText.text(of: $0) } == "2001:db8::a")
        #expect(IPAddressText.canonicalIPv6("2001:db8:0:0:0:0:0:1") == "2001:db8::1")
        #expect(IPAddressText.isIPv4("10.0.0.1") && !IPAddressText.isIPv4("::1") && IPAddressText.isIPv6("::1"))
        for text in ["", "10.0.0", "10.0.0.1\u{0}x", "[::1]", "::1%lo", "::1\u{0}", "a", "010.0.0.1", "256.0.0.1"] {
            #expect(IPAddressText.bytes(text) == nil && IPAddressText.canonicalIPv6(text) == nil, "\(text)")
        }
    }
}
