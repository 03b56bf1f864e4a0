import Formats
import Foundation
import Testing

private func bytes(_ text: String) -> [UInt8] { Array(text.utf8) }

@Suite("JSON")
struct JSONTests {
    private func parse(_ text: String, _ limits: JSONLimits = JSONLimits()) throws(JSONError) -> JSONValue {
        try JSONValue(json: bytes(text), limits: limits)
    }

    @Test("Every kind of value is parsed, with white space around it")
    func values() throws {
        #expect(try parse(" \t\r\n null ") == .null)
        #expect(try parse("true") == .bool(true) && parse("false") == .bool(false))
        #expect(try parse("0") == .integer(0) && parse("-7") == .integer(-7))
        #expect(try parse("9223372036854775807") == .integer(.max))
        #expect(try parse("-9223372036854775808") == .integer(.min))
        #expect(try parse("9223372036854775808") == .number(9_223_372_036_854_775_808))
        #expect(try parse("-0") == .number(-0.0) && parse("1.0") == .number(1) && parse("1e2") == .number(100))
        #expect(try parse("-12.5E-1") == .number(-1.25))
        #expect(try parse(#""""#) == .string("") && parse(#""aä\#u{1F600}""#) == .string("aä\u{1F600}"))
        #expect(try parse("[]") == .array([]) && parse("{ }") == .object([:]))
        let expected: JSONValue = .object([
            "a": .array([.integer(1), .object(["b": .null]), .string("c")]), "d": .bool(true),
        ])
        #expect(try parse(#" { "a" : [ 1 , { "b" : null } , "c" ] , "d" : true } "#) == expected)
    }

    @Test("Escapes are decoded")
    func escapes() throws {
        #expect(try parse(#""\"\\\/\b\f\n\r\t""#) == .string("\"\\/\u{8}\u{c}\n\r\t"))
        #expect(try parse(#""\u0041\u00e4\u20AC\ud83d\ude00\u0000""#) == .string("Aä€\u{1F600}\u{0}"))
    }

    @Test(
        "A text that is not JSON is rejected with the offset of the error",
        arguments: [
            ("", 0), ("  ", 2), ("nul", 0), ("nullx", 4), ("True", 0), ("NaN", 0), ("+1", 0), ("01", 2), ("-", 1),
            ("1.", 2), (".5", 0), ("1e", 2), ("1e+", 3), ("0x10", 1), ("1e999", 5), ("-1e999", 6), ("1 2", 2),
            ("[1,]", 3), ("[1 2]", 3), ("[", 1), ("[1", 2), ("]", 0), ("{", 1), (#"{"a"}"#, 4), (#"{"a":}"#, 5),
            (#"{"a":1,}"#, 7), ("{a:1}", 1), ("{'a':1}", 1), (#"{"a":1"#, 6), (#"{"a":1 "b":2}"#, 7),
            (#"{"a":1,"a":2}"#, 7), (#"{"a":1,"\u0061":2}"#, 7), (#"{"\u00e4":1,"a\u0308":2}"#, 12), (#""a"#, 2),
            ("\"a\u{1}\"", 2), ("\"a\nb\"", 2), (#""\x""#, 1), (#""\"#, 1), (#""\u12""#, 1), (#""\ud800""#, 1),
            (#""\ud800\u0041""#, 1), (#""\udc00""#, 1), (#""\ud800x""#, 1), ("// c\n1", 0), ("\u{feff}1", 0),
        ]
    )
    func refused(_ text: String, _ offset: Int) {
        let error = #expect(throws: JSONError.self) { try parse(text) }
        #expect(error?.offset == offset, "\(text): \(error?.description ?? "")")
    }

    @Test("Bytes that are not UTF-8 are rejected in plain strings, in escaped strings and in names")
    func notUTF8() {
        let bad: [[UInt8]] = [
            [0xff], [0xc0, 0x80], [0xed, 0xa0, 0x80], [0xf4, 0x90, 0x80, 0x80], [0xe2, 0x82], [0x80],
        ]
        for middle in bad {
            #expect(throws: JSONError.self) { try JSONValue(json: bytes("\"a") + middle + bytes("\"")) }
            #expect(throws: JSONError.self) { try JSONValue(json: bytes("\"\\n") + middle + bytes("\"")) }
            #expect(throws: JSONError.self) { try JSONValue(json: bytes("{\"") + middle + bytes("\":1}")) }
        }
    }

    @Test("The limits apply to the size, the depth, the number of values and the length of numbers")
    func bounds() throws {
        var limits = JSONLimits()
        limits.size = 10
        #expect(try parse("[1,2,3,4] ", limits).array?.count == 4)
        #expect(throws: JSONError.self) { try parse("[1,2,3,4]  ", limits) }
        limits = JSONLimits()
        func nested(_ depth: Int) -> String {
            String(repeating: "[", count: depth) + String(repeating: "]", count: depth)
        }
        _ = try parse(nested(limits.depth))
        #expect(throws: JSONError.self) { try parse(nested(limits.depth + 1)) }
        #expect(throws: JSONError.self) { try parse(String(repeating: "[", count: 1_000_000)) }
        #expect(throws: JSONError.self) { try parse(String(repeating: #"{"a":"#, count: 100_000)) }
        limits.values = 4
        _ = try parse("[1,2,3]", limits)
        #expect(throws: JSONError.self) { try parse("[1,2,3,4]", limits) }
        _ = try parse(String(repeating: "1", count: 64))
        #expect(throws: JSONError.self) { try parse(String(repeating: "1", count: 65)) }
        #expect(throws: JSONError.self) { try parse("0." + String(repeating: "1", count: 100_000)) }
    }

    @Test("A written value parses to itself, with its fields sorted")
    func writing() throws {
        let value: JSONValue = .object([
            "z": .array([
                .null, .bool(false), .integer(.min), .number(1), .number(-0.0), .number(.leastNonzeroMagnitude),
                .number(1e300),
            ]),
            "": .string("quote \" backslash \\ slash / \u{0}\u{1f}\u{7f}\u{8}\n\r\t ä \u{1F600}"),
            "a": .object(["b": .object([:])]),
            "Z": .array([]),
        ])
        let text = String(decoding: value.json, as: UTF8.self)
        #expect(
            text.hasPrefix(#"{"":"quote \" backslash \\ slash / \u0000\u001f"#) && text.contains(#"\u0008\n\r\t ä"#)
        )
        #expect(try JSONValue(json: value.json) == value)
        #expect(try JSONValue(json: value.json).json == value.json)
        let foreign = try JSONSerialization.jsonObject(with: Data(value.json)) as? [String: Any]
        #expect(foreign?.count == 4)
        #expect([String: JSONValue](json: bytes("[]")) == nil && [String: JSONValue](json: bytes("{}")) == [:])
    }

    @Test("A randomly changed document is either parsed or rejected")
    func hostile() {
        let document = bytes(#"{"a":[1,-2.5e3,"x\u00e4\n",{"b":null,"c":[true,false]}],"d":"ä€","e":{}}"#)
        var generator = SystemRandomNumberGenerator()
        for _ in 0..<20_000 {
            var changed = document
            for _ in 0..<Int.random(in: 1...4, using: &generator) {
                let index = Int.random(in: 0..<changed.count, using: &generator)
                switch Int.random(in: 0..<3, using: &generator) {
                case 0: changed[index] = .random(in: .min ... .max, using: &generator)
                case 1: changed.remove(at: index)
                default: changed.insert(changed[Int.random(in: 0..<changed.count, using: &generator)], at: index)
                }
                if changed.isEmpty { changed = [0] }
            }
            guard let value = try? JSONValue(json: changed) else { continue }
            #expect((try? JSONValue(json: value.json)) == value)
        }
    }
}
