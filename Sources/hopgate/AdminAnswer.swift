import Formats

/// Reading of what the admin port answers, for tables.
extension JSONValue {
    var fields: [String: JSONValue]? {
        if case .object(let fields) = self { fields } else { nil }
    }

    var objects: [[String: JSONValue]] {
        if case .array(let values) = self { values.compactMap(\.fields) } else { [] }
    }

    /// One word; nil for what is none.
    var word: String? {
        switch self {
        case .bool(let value): value ? "yes" : "no"
        case .integer(let value): "\(value)"
        case .number(let value): "\(value)"
        // A replica's or an agent's name may come from anywhere: no control characters on a terminal.
        case .string(let value): String(String.UnicodeScalarView(value.unicodeScalars.map { $0.isPlain ? $0 : "?" }))
        case .null, .array, .object: nil
        }
    }
}

extension Unicode.Scalar {
    fileprivate var isPlain: Bool {
        switch properties.generalCategory {
        case .control, .format, .lineSeparator, .paragraphSeparator, .surrogate, .privateUse, .unassigned: false
        default: true
        }
    }
}

extension [String: JSONValue] {
    func text(_ key: String, absent: String = "?") -> String { self[key]?.word ?? absent }
}
