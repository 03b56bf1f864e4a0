import Formats
import Testing

@Suite("Quoting")
struct QuotingTests {
    @Test("Quoting escapes control characters, masks tokens and cuts long texts")
    func quoting() {
        #expect(quoted("a\"\\\n\u{1B}[31m\u{202E}") == "\"a\\\"\\\\\\n\\u{1b}[31m\\u{202e}\"")
        #expect(quoted("see hgt_abc.SECRET-1_2 here") == "\"see hgt_… here\"")
        #expect(quoted("hgt_hgt_x.y") == "\"hgt_…\"")
        #expect(quoted(String(repeating: "x", count: 1000)).count == 83)
    }

    @Test("A word for a shell is quoted if the shell would interpret it")
    func words() {
        for plain in ["a.test", "--host", "/var/lib/x_1", "hgj_a-b.c", "a=b:c@d,e%"] {
            #expect(shellWord(plain) == plain)
        }
        #expect(shellWord("*.a.test") == "'*.a.test'" && shellWord("~x") == "'~x'" && shellWord("") == "''")
        #expect(shellWord("it's $x") == #"'it'\''s $x'"#)
    }
}
