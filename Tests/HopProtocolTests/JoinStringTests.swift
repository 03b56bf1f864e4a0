import Formats
import HopProtocol
import Testing

@Suite("Join strings")
struct JoinStringTests {
    private static let token = "hgt_abcdefghijklmnop.TOPSECRET-_0123456789"
    private static let whole = JoinString(
        gateways: ["gateway.example.com:443", "[2001:db8::1]:8443"],
        pin: (0..<32).map { UInt8($0) },
        token: token
    )

    private func error(_ text: String) -> JoinStringError? {
        do throws(JoinStringError) {
            _ = try JoinString(text)
            return nil
        } catch {
            return error
        }
    }

    private func text(_ json: String) -> String { "hgj_" + Base64URL.encode(Array(json.utf8)) }

    @Test("A join string is read as it was written, the same each time")
    func roundTrip() throws {
        let text = Self.whole.text
        #expect(text.hasPrefix("hgj_") && text.utf8.dropFirst(4).allSatisfy(Base64URL.isDigit))
        #expect(try JoinString(text) == Self.whole && Self.whole.text == text)
        #expect(Self.whole.tokenID == "abcdefghijklmnop")
        let bare = JoinString(gateways: ["a:1"], pin: nil, token: Self.token)
        #expect(try JoinString(bare.text) == bare)
        #expect(bare.text == self.text(#"{"g":["a:1"],"t":"\#(Self.token)","v":1}"#))
    }

    @Test("Blanks and line breaks around a join string are ignored")
    func blanks() throws {
        for (before, after) in [("", "\n"), ("\n \t", "\r\n\n"), (" ", " ")] {
            #expect(try JoinString(before + Self.whole.text + after) == Self.whole)
        }
    }

    @Test("A join string that is cut anywhere is refused as such")
    func cut() {
        let text = Self.whole.text
        for count in 4..<text.utf8.count {
            let error = error(String(text.prefix(count)))
            #expect(error?.what == "is cut or damaged", "\(count)")
            #expect(error?.remedy.contains("whole") == true)
        }
    }

    @Test("The error of a later version asks for an upgrade of hopagent")
    func version() {
        for version in [0, 2, 99] {
            let error = error(text(#"{"v":\#(version),"new":{"form":[1]}}"#))
            #expect(error?.what.contains("version \(version)") == true && error?.remedy == "Upgrade hopagent.")
        }
    }

    @Test(
        "A text that is not a join string is refused and not repeated in the error",
        arguments: [
            "", " ", "hgj_", "hgj_\n", "HGJ_abcd", "TOPSECRET", token, "hgj_a b", "hgj_ab\ncd", "hgj_ab=", "hgj_ab+/",
            "hgj_\u{e4}\u{e4}", "hgj_A", "hgj_TOPSECRET", "hgj_" + String(repeating: "A", count: 100_000),
        ]
    )
    func none(_ text: String) {
        let error = error(text)
        #expect(error != nil)
        #expect(error?.what.contains("TOPSECRET") == false && error?.remedy.contains("TOPSECRET") == false)
    }

    @Test("Invalid fields are refused")
    func fields() {
        let good = #""g":["a:1"],"t":"\#(Self.token)""#
        #expect(error(text("{\"v\":1,\(good)}")) == nil)
        #expect(error(text("{\"v\":1,\(good),\"later\":[1]}")) == nil)
        for json in [
            "{\(good)}", "{\"v\":\"1\",\(good)}", "{\"v\":1}", "[1]", "null", "{\"v\":1,\(good),\"p\":\"AAAA\"}",
            "{\"v\":1,\(good),\"p\":7}", #"{"v":1,"g":[],"t":"\#(Self.token)"}"#,
            #"{"v":1,"g":["a b"],"t":"\#(Self.token)"}"#, #"{"v":1,"g":["a\nb:1"],"t":"\#(Self.token)"}"#,
            #"{"v":1,"g":["\#(String(repeating: "a", count: 261))"],"t":"\#(Self.token)"}"#,
            #"{"v":1,"g":["a:1"],"t":"hgt_a"}"#, #"{"v":1,"g":["a:1"],"t":"hgt_a.b c"}"#,
            #"{"v":1,"g":["a:1"],"t":"x.y"}"#, #"{"v":1,"g":"a:1","t":"\#(Self.token)"}"#,
            #"{"v":1,"g":[\#(Array(repeating: "\"a:1\"", count: 17).joined(separator: ","))],"t":"\#(Self.token)"}"#,
        ] { #expect(error(text(json)) != nil, "\(json)") }
    }

    @Test("A changed character never leads to anything but a refusal or another join string")
    func hostile() {
        let bytes = Array(Self.whole.text.utf8)
        for index in bytes.indices {
            for bit in 0..<8 {
                var changed = bytes
                changed[index] ^= 1 << bit
                guard let join = try? JoinString(String(decoding: changed, as: UTF8.self)) else { continue }
                #expect((try? JoinString(join.text)) == join)
            }
        }
    }

    @Test("No way of printing a join string shows the secret")
    func redaction() {
        var dumped = ""
        dump(Self.whole, to: &dumped)
        for text in ["\(Self.whole)", String(reflecting: Self.whole), dumped, "\([Self.whole])"] {
            #expect(!text.contains("TOPSECRET") && !text.contains(Self.whole.text))
        }
        #expect("\(Self.whole)" == "hgj_… (token abcdefghijklmnop)")
    }
}
