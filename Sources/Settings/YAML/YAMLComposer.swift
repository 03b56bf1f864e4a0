import CYAML
import Formats

extension YAMLNode {
    /// Parses one document.
    ///
    /// - Returns: The root (`nil` if the text could not be parsed to its end, `.null` for an empty text) and all
    ///   problems. A syntax error ends parsing; a duplicate key does not, so that several are reported at once.
    package static func parse(
        _ bytes: [UInt8],
        limits: YAMLLimits = YAMLLimits()
    ) -> (root: YAMLNode?, problems: [YAMLProblem]) {
        bytes.withUnsafeBytes { bytes in
            if let problem = YAMLText.problem(in: bytes, limits: limits) { return (nil, [problem]) }
            // A byte-order mark is allowed before UTF-8 text; libyaml skips it only when it guesses the encoding.
            let text = bytes.starts(with: [0xEF, 0xBB, 0xBF]) ? UnsafeRawBufferPointer(rebasing: bytes[3...]) : bytes
            var composer = YAMLComposer(text: text, limits: limits)
            let root = composer.compose()
            return (root, composer.problems)
        }
    }
}

/// Builds the tree of nodes from libyaml's events. It has an explicit stack, so that the depth of a document does not
/// become a depth of calls.
struct YAMLComposer {
    private struct Stop: Error {}

    /// A map or list whose end has not been parsed yet.
    private struct Frame {
        var mark: YAMLNode.Mark
        var items: [YAMLNode] = []
        var entries: [YAMLNode.Entry] = []
        /// The line of each key so far, or `nil` in a list.
        var keys: [String: Int]?
        /// The key whose value comes next. The value of a duplicate key is parsed and dropped.
        var pending: (key: String, mark: YAMLNode.Mark, duplicate: Bool)?
    }

    private let text: UnsafeRawBufferPointer
    private let limits: YAMLLimits
    private var stack: [Frame] = []
    private var root: YAMLNode?
    private var nodes = 0
    private(set) var problems: [YAMLProblem] = []

    init(text: UnsafeRawBufferPointer, limits: YAMLLimits) {
        self.text = text
        self.limits = limits
    }

    mutating func compose() -> YAMLNode? {
        guard let parser = cyaml_parser_create(text.baseAddress?.assumingMemoryBound(to: UInt8.self), text.count) else {
            problems.append(.init(mark: .init(line: 1, column: 1), what: "out of memory", remedy: "Try again."))
            return nil
        }
        defer { cyaml_parser_destroy(parser) }
        var event = cyaml_event()
        do {
            repeat {
                cyaml_parser_next(parser, &event)
                try handle(event)
            } while event.kind != CYAML_STREAM_END
        } catch {
            return nil
        }
        return root ?? YAMLNode(value: .null, mark: .init(line: 1, column: 1))
    }

    private mutating func handle(_ event: cyaml_event) throws(Stop) {
        var mark = YAMLNode.Mark(line: Int(event.line) + 1, column: Int(event.column) + 1)
        if event.kind == CYAML_ERROR {
            // Something missing at the end of the text is reported on the line after it, which editors do not show.
            mark.line = min(mark.line, YAMLText.lineCount(text))
        }
        if event.has_anchor != 0 || event.kind == CYAML_ALIAS {
            throw stop(mark, "uses an anchor or alias (& or *)", "Write the value out: references are not read here.")
        }
        if event.has_tag != 0 {
            throw stop(mark, "uses a tag (!)", "Remove it; put quotes around text that begins with \"!\".")
        }
        switch event.kind {
        case CYAML_ERROR:
            throw syntaxError(event, mark)
        case CYAML_DOCUMENT_START:
            if root != nil { throw stop(mark, "begins a second document", "Keep one document: remove the --- line.") }
        case CYAML_SCALAR:
            try scalar(event, mark)
        case CYAML_SEQUENCE_START, CYAML_MAPPING_START:
            try open(Frame(mark: mark, keys: event.kind == CYAML_MAPPING_START ? [:] : nil))
        case CYAML_SEQUENCE_END, CYAML_MAPPING_END:
            let frame = stack.removeLast()
            let value: YAMLNode.Value = frame.keys == nil ? .sequence(frame.items) : .mapping(frame.entries)
            attach(YAMLNode(value: value, mark: frame.mark))
        default:
            break
        }
    }

    private mutating func scalar(_ event: cyaml_event, _ mark: YAMLNode.Mark) throws(Stop) {
        try count(mark)
        guard event.length <= limits.scalar else {
            throw stop(mark, "a value is longer than \(limits.scalar / 1024) KiB", "Is this the right file?")
        }
        let bytes = UnsafeRawBufferPointer(start: event.value, count: event.length)
        // An escape in double quotes can produce one ("\0"). A path or name truncated at it would mean something else.
        guard !bytes.contains(0) else { throw stop(mark, "a value holds a NUL character", "Remove it.") }
        let string = String(decoding: bytes, as: UTF8.self)
        if expectsKey {
            key(string, mark)
        } else {
            let isNull = event.plain != 0 && ["", "~", "null", "Null", "NULL"].contains(string)
            attach(YAMLNode(value: isNull ? .null : .scalar(string), mark: mark))
        }
    }

    private mutating func key(_ key: String, _ mark: YAMLNode.Mark) {
        let top = stack.count - 1
        let first = stack[top].keys?[key]
        if let first {
            if problems.count < limits.problems {
                problems.append(
                    YAMLProblem(
                        mark: mark,
                        what: "key \(quoted(key)) is already on line \(first)",
                        remedy: "Keep one of the two."
                    )
                )
            }
        } else {
            stack[top].keys?[key] = mark.line
        }
        stack[top].pending = (key, mark, first != nil)
    }

    private mutating func open(_ frame: Frame) throws(Stop) {
        try count(frame.mark)
        if expectsKey { throw stop(frame.mark, "a list or map is used as a key", "Use plain text as the key.") }
        guard stack.count < limits.depth else {
            throw stop(
                frame.mark,
                "more than \(limits.depth) lists and maps inside each other",
                "Is this the right file?"
            )
        }
        stack.append(frame)
    }

    private mutating func attach(_ node: YAMLNode) {
        guard !stack.isEmpty else {
            root = node
            return
        }
        let top = stack.count - 1
        if let pending = stack[top].pending {
            stack[top].pending = nil
            if !pending.duplicate {
                stack[top].entries.append(.init(key: pending.key, keyMark: pending.mark, node: node))
            }
        } else {
            stack[top].items.append(node)
        }
    }

    private var expectsKey: Bool {
        guard let top = stack.last else { return false }
        return top.keys != nil && top.pending == nil
    }

    private mutating func count(_ mark: YAMLNode.Mark) throws(Stop) {
        nodes += 1
        guard nodes <= limits.nodes else {
            throw stop(mark, "more than \(limits.nodes) values", "Is this the right file?")
        }
    }

    private mutating func syntaxError(_ event: cyaml_event, _ mark: YAMLNode.Mark) -> Stop {
        if YAMLText.indentsWithTab(text, line: mark.line) {
            return stop(mark, "a tab in the indentation", "Indent with spaces.")
        }
        let message = event.value.map { String(cString: $0) } ?? "not readable"
        return stop(
            mark,
            "is not valid YAML: \(message)",
            "Look at this line and the one above: indentation, quotes, colons."
        )
    }

    private mutating func stop(_ mark: YAMLNode.Mark, _ what: String, _ remedy: String) -> Stop {
        problems.append(YAMLProblem(mark: mark, what: what, remedy: remedy))
        return Stop()
    }
}
