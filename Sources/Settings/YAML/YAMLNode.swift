/// One node of a YAML document, with its position.
///
/// Scalars stay text: the setting that reads them decides the meaning of `yes`, `010` or `1:30`, not YAML's implicit
/// types.
package struct YAMLNode: Sendable, Equatable {
    package enum Value: Sendable, Equatable {
        /// An empty value, `null` or `~`.
        case null
        case scalar(String)
        case sequence([YAMLNode])
        case mapping([Entry])
    }

    /// A key and its value, in the order of the file.
    package struct Entry: Sendable, Equatable {
        package var key: String
        package var keyMark: Mark
        package var node: YAMLNode
    }

    /// A position in the text. Both numbers count from 1, as in editors.
    package struct Mark: Sendable, Equatable {
        package var line: Int
        package var column: Int
    }

    package var value: Value
    package var mark: Mark

    /// The name of this kind of node in messages.
    var kind: String {
        switch value {
        case .null: "nothing"
        case .scalar: "a single value"
        case .sequence: "a list"
        case .mapping: "a map"
        }
    }

    /// Whether both nodes have the same content, regardless of their positions. A single value equals a list of that
    /// value.
    func isEquivalent(to other: YAMLNode) -> Bool {
        switch (value, other.value) {
        case (.null, .null): true
        case (.scalar(let mine), .scalar(let theirs)): mine == theirs
        case (.sequence(let mine), .sequence(let theirs)): mine.elementsEqual(theirs) { $0.isEquivalent(to: $1) }
        case (.mapping(let mine), .mapping(let theirs)):
            mine.elementsEqual(theirs) { $0.key == $1.key && $0.node.isEquivalent(to: $1.node) }
        case (.sequence(let mine), _): mine.count == 1 && mine[0].isEquivalent(to: other)
        case (_, .sequence(let theirs)): theirs.count == 1 && isEquivalent(to: theirs[0])
        default: false
        }
    }
}

/// A problem of the text itself: invalid YAML, or a feature of YAML that configurations do not use.
package struct YAMLProblem: Sendable, Equatable {
    package var mark: YAMLNode.Mark
    package var what: String
    package var remedy: String
}

/// The limits of a document. They are far above the needs of a hand-written configuration file, and far below what
/// would exhaust memory.
package struct YAMLLimits: Sendable {
    /// The maximum number of bytes of the whole text.
    package var size = 1 << 20
    /// The maximum nesting of maps and lists. Our configurations need five.
    package var depth = 32
    package var nodes = 200_000
    /// The maximum number of bytes of one scalar.
    package var scalar = 1 << 16
    /// The maximum number of problems that are kept. Further ones are mostly consequences of the first.
    package var problems = 50

    package init() {}
}
