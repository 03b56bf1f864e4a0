import HopProtocol
import NIOCore
import Testing

struct FieldSectionTests {
    @Test("Order, case and duplicates are kept")
    func order() {
        let section = FieldSection(["B": "1", "a": "2", "b": "3", "Set-Cookie": "x=1", "set-cookie": "y=2"])
        #expect(section.map(\.name) == ["B", "a", "b", "Set-Cookie", "set-cookie"])
        #expect(section.map(\.value) == ["1", "2", "3", "x=1", "y=2"])
        #expect(section.count == 5)
        #expect(section.first("B") == "1")
        #expect(section.all("SET-COOKIE") == ["x=1", "y=2"])
        #expect(section.contains("A"))
        #expect(!section.contains("aa"))
        #expect(section.first("missing") == nil)
    }

    @Test("Bytes above ASCII are kept unchanged")
    func bytes() throws {
        let name = Array("x-raw".utf8)
        let value: [UInt8] = [0xFF, 0x20, 0x80, 0xC3]
        var section = FieldSection()
        name.withUnsafeBytes { name in value.withUnsafeBytes { section.append(name: name, value: $0) } }
        let decoded = try FieldSection(decoding: section.bytes)
        #expect(decoded == section)
        var seen: [[UInt8]] = []
        decoded.forEachBytes { seen += [Array($0), Array($1)] }
        #expect(seen == [name, value])
        #expect(Array(decoded.first { _ in true }!.valueBytes.readableBytesView) == value)
    }

    @Test("A copied field is the same field")
    func copy() {
        let section = FieldSection(["a": "1", "b": "22"])
        var other = FieldSection()
        for field in section { other.append(field) }
        #expect(other == section)
    }

    @Test("Golden bytes")
    func golden() {
        #expect(FieldSection(["ab": "c", "d": ""]).bytes.hex == "02616201630164" + "00")
    }

    @Test(
        "Names that are not tokens and values with control characters are refused",
        arguments: [
            ("", "v"), ("a b", "v"), ("a:", "v"), ("a\r", "v"), ("é", "v"), ("a\u{0}", "v"), ("(", "v"),
            ("\u{7f}", "v"),
            ("a", "v\r\nb: c"), ("a", "\u{0}"), ("a", "\n"), ("a", "x\u{7f}"), ("a", "\u{1}"),
        ]
    )
    func hostileFields(name: String, value: String) {
        let section = FieldSection([name: value])
        #expect(throws: HopError.self) { try FieldSection(decoding: section.bytes) }
    }

    @Test("HTAB, spaces and obs-text are valid in a value")
    func validValues() throws {
        let section = FieldSection(["!#$%&'*+-.^_`|~09azAZ": "\t a é"])
        #expect(try FieldSection(decoding: section.bytes) == section)
    }

    @Test("A truncated section and a wrong length are refused")
    func hostileLengths() throws {
        let whole = FieldSection(["abc": "defg"]).bytes
        for index in 1..<whole.readableBytes {
            #expect(throws: HopError.self) { try FieldSection(decoding: whole.cut(at: index)[0]) }
        }
        for bytes: [UInt8] in [
            [0x3F], [0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF], [0x01, 0x61, 0xC0], [0x01, 0x61, 0x40],
            [0x01, 0x61, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0x00], [0x01, 0x61, 0x02, 0x61],
        ] {
            #expect(throws: HopError.self) { try FieldSection(decoding: ByteBuffer(bytes: bytes)) }
        }
        #expect(try FieldSection(decoding: ByteBuffer()).isEmpty)
    }

    @Test("More fields than the limit are refused")
    func tooMany() throws {
        var section = FieldSection()
        for _ in 0..<HopLimits.fields { section.append(name: "a", value: "b") }
        #expect(try FieldSection(decoding: section.bytes).count == HopLimits.fields)
        section.append(name: "a", value: "b")
        #expect(throws: HopError.self) { try FieldSection(decoding: section.bytes) }
    }

    @Test(
        "Content-Length is one number below 2^63 or a violation",
        arguments: [
            ("0", 0), ("10", 10), ("007", 7), ("9223372036854775807", Int.max), ("9223372036854775808", nil), ("", nil),
            ("+1", nil), ("-1", nil), ("1,1", nil), ("1 ", nil), ("0x1", nil), ("99999999999999999999", nil),
        ] as [(String, Int?)]
    )
    func contentLength(text: String, expected: Int?) throws {
        let section = FieldSection(["content-LENGTH": text])
        if let expected {
            #expect(try section.contentLength() == expected)
        } else {
            #expect(throws: HopError.self) { try section.contentLength() }
        }
    }

    @Test("Two Content-Length fields are a violation, and no field yields nil")
    func contentLengthTwice() throws {
        #expect(try FieldSection(["a": "1"]).contentLength() == nil)
        #expect(throws: HopError.self) {
            try FieldSection(["Content-Length": "1", "content-length": "1"]).contentLength()
        }
    }
}
