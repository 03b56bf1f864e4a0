/// One node of a YAML document, with the place it was written at.
///
/// Scalars stay text: what `yes`, `010` or `1:30` mean is decided by the setting that reads them, never by YAML's
/// rules of implicit types.
package struct YAMLNode: Sendable, Equatable {
    package enum Value: Sendable, Equatable {
        /// Nothing after the colon, `null` or `~`.
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

    /// A place in the text. Both numbers count from 1, as editors do.
    package struct Mark: Sendable, Equatable {
        package var line: Int
        package var column: Int
    }

    package var value: Value
    package var mark: Mark

    /// What a message calls this kind of node.
    var kind: String {
        switch value {
        case .null: "nothing"
        case .scalar: "a single value"
        case .sequence: "a list"
        case .mapping: "a map"
        }
    }

    /// Whether both mean the same, wherever they stand. A single value means a list of that one.
    func says(_ other: YAMLNode) -> Bool {
        switch (value, other.value) {
        case (.null, .null): true
        case (.scalar(let mine), .scalar(let theirs)): mine == theirs
        case (.sequence(let mine), .sequence(let theirs)): mine.elementsEqual(theirs) { $0.says($1) }
        case (.mapping(let mine), .mapping(let theirs)):
            mine.elementsEqual(theirs) { $0.key == $1.key && $0.node.says($1.node) }
        case (.sequence(let mine), _): mine.count == 1 && mine[0].says(other)
        case (_, .sequence(let theirs)): theirs.count == 1 && says(theirs[0])
        default: false
        }
    }
}

/// Something wrong with the text itself: not YAML, or YAML that a configuration has no use for.
package struct YAMLProblem: Sendable, Equatable {
    package var mark: YAMLNode.Mark
    package var what: String
    package var remedy: String
}

/// How much a document may ask of its reader. A configuration file is written by people; these bounds are far above
/// what they write and far below what hurts.
package struct YAMLLimits: Sendable {
    /// Bytes of the whole text.
    package var size = 1 << 20
    /// Maps and lists inside each other. Ours need five.
    package var depth = 32
    package var nodes = 200_000
    /// Bytes of one scalar.
    package var scalar = 1 << 16
    /// Problems kept; the rest are only the first ones' echo.
    package var problems = 50

    package init() {}
}
