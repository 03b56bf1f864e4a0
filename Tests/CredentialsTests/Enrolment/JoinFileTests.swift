import Credentials
import HopProtocol
import TestSupport
import Testing

@Suite("Join files")
struct JoinFileTests {
    private let scratch = ScratchFolder()

    @Test("A join file that other users may read gets mode 0600, one of a group keeps its mode")
    func mode() throws {
        let file = JoinFile(path: scratch.file("join"))
        scratch.write("join", "", mode: 0o644)
        try file.write("x")
        #expect(scratch.mode("join") == 0o600 && file.restrict() == nil)
        scratch.write("join", "x", mode: 0o644)
        let note = file.restrict().map(scratch.relative)
        #expect(note == "join has mode 0600 now: other users could read it (mode 0644).")
        #expect(scratch.mode("join") == 0o600)
        scratch.write("join", "x", mode: 0o640)
        #expect(file.restrict() == nil && scratch.mode("join") == 0o640)
    }

    @Test("Golden bytes of a join file: the join string and a line break, for the owner only")
    func golden() throws {
        let join = JoinString(gateways: ["a:1"], pin: nil, token: "hgt_abcdefghijklmnop.s")
        // The base64url of {"g":["a:1"],"t":"hgt_abcdefghijklmnop.s","v":1}.
        let golden = "hgj_eyJnIjpbImE6MSJdLCJ0IjoiaGd0X2FiY2RlZmdoaWprbG1ub3AucyIsInYiOjF9\n"
        let file = JoinFile(path: scratch.file("join"))
        #expect(try file.read() == nil)
        try file.write(join.text)
        #expect(scratch.read("join") == Array(golden.utf8) && scratch.mode("join") == 0o600)
        #expect(try JoinString(try #require(try file.read())) == join)
        for count in 0..<golden.utf8.count - 1 {
            scratch.write("join", String(golden.prefix(count)))
            let text = try #require(try file.read())
            #expect(throws: JoinStringError.self) { try JoinString(text) }
        }
        // {"g":["a:1"],"t":"hgt_abcdefghijklmnop.s","v":2}
        let later = "hgj_eyJnIjpbImE6MSJdLCJ0IjoiaGd0X2FiY2RlZmdoaWprbG1ub3AucyIsInYiOjJ9\n"
        let error = #expect(throws: JoinStringError.self) { try JoinString(later) }
        #expect(error.map { "\($0)".contains("2") } == true, "\(String(describing: error))")
    }
}
