import Formats
import Settings
import TestSupport
import Testing

@Suite("Lists of several forms, and keys with two names")
struct SettingsItemTests {
    private let folder = ScratchFolder()

    private func reader(_ yaml: String, environment: [String: String] = [:]) -> SettingsReader {
        let file = folder.write("test.yaml", yaml)
        return SettingsReader(prefix: "HOPTEST", file: file, environment: environment, flags: [:])
    }

    private func text(_ item: SettingsItem) -> String {
        switch item.form {
        case .value(let text): text
        case .list(let texts): "[\(texts.map(\.value).joined(separator: " "))]"
        case .map(let scope): "{\(scope().value("k", default: "-") { text throws(FormatError) in text }.value)}"
        }
    }

    @Test(
        "Items are single values, lists and maps; a value that is not a list is a list of one",
        arguments: [
            ("x: a", ["a"]), ("x: [a, [b, c], {k: v}]", ["a", "[b c]", "{v}"]), ("x: {k: v}", ["{v}"]), ("x: []", []),
            ("x:", []),
        ]
    )
    func forms(_ yaml: String, _ expected: [String]) throws {
        let reader = reader(yaml + "\n")
        #expect(reader.root.items("x")?.items.map(text) == expected)
        try reader.finish()
    }

    @Test("A variable holds items separated by commas or as YAML")
    func variables() throws {
        for (value, expected) in [("a, b", ["a", "b"]), ("[a, [b, c]]", ["a", "[b c]"]), ("a", ["a"])] {
            let reader = reader("x: ignored\n", environment: ["HOPTEST_X": value])
            #expect(reader.root.items("x")?.items.map(text) == expected)
            try reader.finish()
        }
        let other = reader("y: 1\n")
        withExtendedLifetime(other) { #expect(other.root.items("x") == nil) }
    }

    @Test("A key and its synonym may both be given only if they are equivalent")
    func synonyms() throws {
        for (first, second, isSame) in [
            ("a", "[a]", true), ("[a, b]", "[a, b]", true), ("[[a]]", "a", true), ("a", "b", false),
            ("[a, b]", "a", false), ("{k: v}", "[{k: v}]", true), ("{k: v}", "{k: w}", false), ("a", "", false),
        ] {
            let reader = reader("s_x: \(first)\ns:\n  x: \(second)\n")
            let section = reader.root.section("s")
            section.synonym("s_x", in: reader.root, of: "x")
            #expect((section.items("x") != nil) == isSame)
            do {
                try reader.finish()
                #expect(isSame)
            } catch {
                let lines = folder.relative(error.description).split(separator: "\n")
                #expect(!isSame && lines.count == 1, "\(lines)")
                #expect(lines[0].contains(":3: s.x: differs from s_x"), "\(lines)")
            }
        }
    }
}
