import Settings

/// Parses a document as YAML. The result is a tree no larger than its text, or problems that name a position in it. A
/// tree that is written out and parsed again is the same.
func checkYAML(_ bytes: [UInt8]) {
    let (root, problems) = YAMLNode.parse(bytes)
    // YAML has more kinds of line breaks than an editor, but never more than there are bytes.
    let place = 1...(bytes.count + 1)
    precondition(problems.count <= YAMLLimits().problems + 1, "more problems than the limit")
    for problem in problems {
        check(problem.mark, place)
        checkLine(problem.what)
        checkLine(problem.remedy)
    }
    guard let root else {
        precondition(!problems.isEmpty, "neither a root nor a problem")
        return
    }
    var tally = Tally()
    tally.add(root, depth: 0, place)
    precondition(tally.nodes <= bytes.count + 1, "more nodes than bytes")
    // "\L" is two bytes and is parsed to three.
    precondition(tally.bytes <= 2 * bytes.count, "more bytes of text than the limit")
    precondition(tally.depth <= YAMLLimits().depth, "deeper than allowed")
    var text: [UInt8] = []
    write(root, into: &text)
    let again = YAMLNode.parse(text)
    guard let rootAgain = again.root, again.problems.isEmpty else {
        preconditionFailure("the written tree cannot be parsed: \(again.problems)")
    }
    precondition(isSame(root, rootAgain), "writing changed the tree")
}

/// Checks that a message stays on one line.
func checkLine(_ text: String) {
    precondition(!text.utf8.contains { $0 < 0x20 || $0 == 0x7F }, "a control character in a message")
}

private func check(_ mark: YAMLNode.Mark, _ place: ClosedRange<Int>) {
    precondition(place.contains(mark.line) && place.contains(mark.column), "a position outside of the text")
}

private struct Tally {
    var nodes = 0
    var bytes = 0
    var depth = 0

    mutating func add(_ node: YAMLNode, depth: Int, _ place: ClosedRange<Int>) {
        check(node.mark, place)
        nodes += 1
        self.depth = max(self.depth, depth)
        switch node.value {
        case .null: break
        case .scalar(let text): bytes += text.utf8.count
        case .sequence(let items): for item in items { add(item, depth: depth + 1, place) }
        case .mapping(let entries):
            precondition(Set(entries.map(\.key)).count == entries.count, "a duplicate key in a map")
            for entry in entries {
                check(entry.keyMark, place)
                bytes += entry.key.utf8.count
                add(entry.node, depth: depth + 1, place)
            }
        }
    }
}

/// Writes a node in flow style, with every text in double quotes.
private func write(_ node: YAMLNode, into text: inout [UInt8]) {
    switch node.value {
    case .null: text.append(UInt8(ascii: "~"))
    case .scalar(let scalar): write(scalar, into: &text)
    case .sequence(let items):
        text.append(UInt8(ascii: "["))
        for item in items {
            write(item, into: &text)
            text.append(UInt8(ascii: ","))
        }
        text.append(UInt8(ascii: "]"))
    case .mapping(let entries):
        text.append(UInt8(ascii: "{"))
        for entry in entries {
            // With a question mark, because a key without one is limited to 1,024 characters.
            text += "? ".utf8
            write(entry.key, into: &text)
            text += " : ".utf8
            write(entry.node, into: &text)
            text.append(UInt8(ascii: ","))
        }
        text.append(UInt8(ascii: "}"))
    }
}

private func write(_ scalar: String, into text: inout [UInt8]) {
    text.append(UInt8(ascii: "\""))
    for character in scalar.unicodeScalars {
        let isPlain = (0x20..<0x7F).contains(character.value) && character != "\"" && character != "\\"
        if isPlain {
            text.append(UInt8(character.value))
        } else {
            let digits = String(character.value, radix: 16)
            text += "\\U".utf8
            text += String(repeating: "0", count: 8 - digits.count).utf8
            text += digits.utf8
        }
    }
    text.append(UInt8(ascii: "\""))
}

/// Whether two nodes are equal apart from their positions. Texts are compared byte by byte.
private func isSame(_ a: YAMLNode, _ b: YAMLNode) -> Bool {
    switch (a.value, b.value) {
    case (.null, .null): true
    case (.scalar(let a), .scalar(let b)): a.utf8.elementsEqual(b.utf8)
    case (.sequence(let a), .sequence(let b)): a.elementsEqual(b, by: isSame)
    case (.mapping(let a), .mapping(let b)):
        a.elementsEqual(b) { $0.key.utf8.elementsEqual($1.key.utf8) && isSame($0.node, $1.node) }
    default: false
    }
}
