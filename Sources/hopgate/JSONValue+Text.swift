import Formats

/// Accessors for showing the admin port's answers in tables.
extension JSONValue {
    var objects: [[String: JSONValue]] { array?.compactMap(\.object) ?? [] }

    /// The printable text of a scalar, or `nil` for null, an array or an object.
    var displayText: String? {
        switch self {
        case .bool(let value): value ? "yes" : "no"
        case .integer(let value): "\(value)"
        case .number(let value): "\(value)"
        // The names of replicas and agents are foreign: no control character may reach a terminal.
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
    /// The printable text of a member, or `absent` if there is none.
    func text(_ key: String, absent: String = "?") -> String { self[key]?.displayText ?? absent }
}
