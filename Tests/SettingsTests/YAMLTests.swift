import Settings
import TestSupport
import Testing

/// Tests of the YAML parser, with hostile texts.
@Suite struct YAMLTests {
    private func parse(_ text: String) -> (root: YAMLNode?, problems: [YAMLProblem]) {
        YAMLNode.parse(Array(text.utf8))
    }

    /// The problems as `line:column what`.
    private func problems(_ text: String) -> [String] { problems(Array(text.utf8)) }

    private func problems(_ bytes: [UInt8]) -> [String] {
        YAMLNode.parse(bytes).problems.map { "\($0.mark.line):\($0.mark.column) \($0.what)" }
    }

    private func dump(_ node: YAMLNode) -> String {
        switch node.value {
        case .null: "null@\(node.mark.line)"
        case .scalar(let text): "\(text)@\(node.mark.line)"
        case .sequence(let items): "[" + items.map(dump).joined(separator: " ") + "]"
        case .mapping(let entries):
            "{" + entries.map { "\($0.key)@\($0.keyMark.line): \(dump($0.node))" }.joined(separator: " ") + "}"
        }
    }

    @Test("Scalars stay text and every node knows its line")
    func tree() throws {
        let text = """
            # comment
            a: 010
            b:
              - yes
              - "null"
              - ~
            c: {d: 1, e: [x, 'y z']}
            f: |
              two
              lines
            g:
            """
        let (root, problems) = parse(text)
        #expect(problems.isEmpty)
        #expect(
            dump(try #require(root))
                == "{a@2: 010@2 b@3: [yes@4 null@5 null@6] c@7: {d@7: 1@7 e@7: [x@7 y z@7]} f@8: two\nlines\n@8 g@11: null@11}"
        )
    }

    @Test(
        "An empty text, a comment and a byte-order mark are null",
        arguments: ["", "# only\n", "\u{FEFF}", "---\n...\n"]
    )
    func nothing(_ text: String) {
        let (root, problems) = parse(text)
        #expect(root?.value == .null)
        #expect(problems.isEmpty)
    }

    @Test("A byte-order mark does not become part of the first key")
    func byteOrderMark() {
        let (root, problems) = parse("\u{FEFF}a: 1")
        #expect(problems.isEmpty)
        #expect(root.map(dump) == "{a@1: 1@1}")
    }

    @Test("Every duplicate key is reported with both lines, also in nested maps")
    func duplicates() {
        let text = "a: 1\nb:\n  c: 1\n  c: {c: 2}\na: [1, 2]\n'a': 3\n"
        #expect(
            problems(text) == [
                "4:3 key \"c\" is already on line 3", "5:1 key \"a\" is already on line 1",
                "6:1 key \"a\" is already on line 1",
            ]
        )
        #expect(parse(text).root.map(dump) == "{a@1: 1@1 b@2: {c@3: 1@3}}")
    }

    @Test("The list of problems is bounded")
    func manyDuplicates() {
        #expect(problems(String(repeating: "a: 1\n", count: 10_000)).count == YAMLLimits().problems)
    }

    @Test(
        "Anchors, aliases, merge keys and tags are refused with their position",
        arguments: [
            ("a: &x 1\nb: 2", "1:4 uses an anchor or alias (& or *)"),
            ("a: 1\nb: *x", "2:4 uses an anchor or alias (& or *)"),
            ("a: &x {b: 1}", "1:4 uses an anchor or alias (& or *)"),
            ("a:\n  <<: *base", "2:7 uses an anchor or alias (& or *)"),
            ("a: !!str 1", "1:4 uses a tag (!)"), ("a: !foo [1]", "1:4 uses a tag (!)"),
            ("!x a: 1", "1:1 uses a tag (!)"),
        ]
    )
    func references(_ text: String, _ expected: String) {
        #expect(problems(text) == [expected])
        #expect(parse(text).root == nil)
    }

    @Test("An alias bomb is refused without expansion")
    func aliasBomb() {
        var text = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n"
        for level in 1..<30 {
            let aliases = Array(repeating: "*a\(level - 1)", count: 9).joined(separator: ", ")
            text += "a\(level): &a\(level) [\(aliases)]\n"
        }
        #expect(problems(text) == ["1:5 uses an anchor or alias (& or *)"])
    }

    @Test("Nesting is bounded in every style", arguments: ["[", "{a: ", "- ", "? ", "lines"])
    func nesting(_ style: String) throws {
        // The size of indented lines grows by the square of the depth, and the size of the text is bounded too.
        let text =
            style == "lines"
            ? (0..<500).map { String(repeating: " ", count: $0) + "a:\n" }.joined()
            : String(repeating: style, count: 100_000)
        let (root, problems) = parse(text)
        #expect(root == nil)
        let problem = try #require(problems.first)
        #expect(problem.what.contains("inside each other") || problem.what.contains("used as a key"), "\(problem)")
    }

    @Test("The bound of nesting is exact")
    func exactDepth() {
        let depth = YAMLLimits().depth
        let nested = { (count: Int) in String(repeating: "[", count: count) + String(repeating: "]", count: count) }
        #expect(problems(nested(depth)).isEmpty)
        #expect(problems(nested(depth + 1)) == ["1:33 more than 32 lists and maps inside each other"])
    }

    @Test("Size, scalars and the number of values are bounded")
    func sizes() {
        #expect(problems("a: " + String(repeating: "x", count: 65_537)) == ["1:4 a value is longer than 64 KiB"])
        #expect(problems("a: " + String(repeating: "x", count: 65_536)).isEmpty)
        #expect(problems(String(repeating: "#", count: (1 << 20) + 1)) == ["1:1 is larger than 1024 KiB"])
        #expect(problems(String(repeating: "#", count: 1 << 20)).isEmpty)
        let many = problems("[" + String(repeating: "1,", count: 300_000) + "1]")
        #expect(many.count == 1 && many[0].hasSuffix("more than 200000 values"))
    }

    @Test(
        "Bytes that are not UTF-8 text are reported by line and value",
        arguments: [
            ([0x61, 0x3A, 0x20, 0xFF], "1:4 byte 0xFF is not UTF-8"),
            ([0x61, 0x0A, 0xC3], "2:1 byte 0xC3 is not UTF-8"),
            // An overlong slash, a surrogate, and a code point above U+10FFFF.
            ([0xC0, 0xAF], "1:1 byte 0xC0 is not UTF-8"), ([0xE0, 0x80, 0xAF], "1:1 byte 0xE0 is not UTF-8"),
            ([0xED, 0xA0, 0x80], "1:1 byte 0xED is not UTF-8"),
            ([0xF4, 0x90, 0x80, 0x80], "1:1 byte 0xF4 is not UTF-8"),
            ([0x61, 0x3A, 0x20, 0x00, 0x62], "1:4 control character 0x00"),
            ([0x61, 0x0A, 0x62, 0x1B], "2:2 control character 0x1B"),
            ([0xFF, 0xFE, 0x61, 0x00], "1:1 is UTF-16 text"),
            ([0x7F, 0x45, 0x4C, 0x46, 0x02], "1:1 control character 0x7F"),
        ] as [([UInt8], String)]
    )
    func bytes(_ bytes: [UInt8], _ expected: String) {
        #expect(problems(bytes) == [expected])
    }

    @Test("UTF-8 sequences of all lengths are preserved")
    func unicode() {
        #expect(parse("ключ: é€😀").root.map(dump) == "{ключ@1: é€😀@1}")
    }

    @Test("A NUL from an escape is refused")
    func escapedNUL() {
        #expect(problems("a: 1\nb: \"x\\0y\"") == ["2:4 a value holds a NUL character"])
        #expect(problems("\"x\\0y\": 1") == ["1:1 a value holds a NUL character"])
    }

    @Test("A tab in the indentation is reported as a tab")
    func tabs() {
        #expect(problems("a:\n\tb: 1\n") == ["2:1 a tab in the indentation"])
        #expect(problems("a:\n  b: 1\n \tc: 2\n").first?.contains("a tab in the indentation") == true)
        #expect(problems("a:\t1 # and\ttabs elsewhere are fine\n").isEmpty)
    }

    @Test(
        "Syntax errors name a line",
        arguments: [
            ("a: 1\nb: [1, 2\nc: 3\n", 3), ("a: \"open\n", 1), ("a: 1\n b: 2\n", 2), ("a: b: c\n", 1), ("a: @x\n", 1),
            ("a: 1\n- b\n", 2), ("%FOO\n", 1), ("{a: 1", 1), ("]", 1), ("a: 'x", 1), ("? [a]: 1", 1),
        ]
    )
    func syntax(_ text: String, _ line: Int) throws {
        let (root, problems) = parse(text)
        #expect(root == nil)
        let problem = try #require(problems.first)
        #expect(problems.count == 1)
        #expect(problem.mark.line == line, "\(problem)")
    }

    @Test("A second document and a list as a key are refused")
    func otherShapes() {
        #expect(problems("a: 1\n---\nb: 2\n") == ["2:1 begins a second document"])
        #expect(problems("[a]: 1") == ["1:1 a list or map is used as a key"])
    }

    @Test("Texts of the largest size are parsed in linear time", .timeLimit(.minutes(1)))
    func largest() {
        let units = [
            "a: 1\n", "? a\n", "- \n", "[a,", "{a: b,", "'", "\"\\x41", "\"a\\\n", "a ", "a\n", "\n", "  ", "# x\n",
            "%TAG ! x\n",
            "&a ", "!a ", "- - ", "[]\n", "a: [{", "|\n a\n", ": ", ", ", "\"a\": ", "a: b: ", "--- \n", "a:\n ",
            "\u{85}", "é",
        ]
        let clock = ContinuousClock()
        for unit in units {
            for prefix in ["", "[", "a: \"", "a: |\n  "] {
                let count = ((1 << 20) - prefix.utf8.count) / unit.utf8.count
                let bytes = Array((prefix + String(repeating: unit, count: count)).utf8)
                let time = clock.measure { _ = YAMLNode.parse(bytes) }
                #expect(time < .seconds(5), "\(prefix.debugDescription) and \(unit.debugDescription)")
            }
        }
    }

    @Test("Random bytes and mutations of a valid text never trap, and always give a root or a problem")
    func random() {
        var generator = SeededGenerator(seed: 7)
        let seed = Array("a: {b: [1, 'x', \"y\\n\"]}\nc:\n  - d: |\n      t\n    e: >-\n      u\n? f\n: g\n# h\n".utf8)
        let alphabet = Array("{}[]:,-?&*!|>'\"%@`#~ \n\t\\abc01\u{FEFF}\u{85}é".utf8) + [0, 0xFF, 0xC2]
        for _ in 0..<20_000 {
            var bytes = seed
            for _ in 0..<Int.random(in: 1...8, using: &generator) {
                let index = Int.random(in: 0..<bytes.count, using: &generator)
                switch Int.random(in: 0..<3, using: &generator) {
                case 0: bytes[index] = alphabet.randomElement(using: &generator) ?? 0
                case 1: bytes.insert(alphabet.randomElement(using: &generator) ?? 0, at: index)
                default: bytes.remove(at: index)
                }
            }
            let (root, problems) = YAMLNode.parse(bytes)
            #expect(root != nil || !problems.isEmpty)
        }
    }
}
