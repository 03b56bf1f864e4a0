/// Everything that is wrong with a configuration, all at once: a start that fails should need one correction, not five.
package struct SettingsError: Error, Sendable, Equatable, CustomStringConvertible {
    package var problems: [SettingsProblem]
    /// Problems beyond the bound on how many are kept.
    package var omitted = 0

    package init(problems: [SettingsProblem], omitted: Int = 0) {
        self.problems = problems
        self.omitted = omitted
    }

    /// One line a problem. Secrets never enter a problem, so this may be printed and logged.
    package var description: String {
        var lines = problems.map(\.description)
        if omitted > 0 { lines.append("and \(omitted) more") }
        return lines.joined(separator: "\n")
    }
}

/// One thing that is wrong: where, which key, what, and how to mend it.
package struct SettingsProblem: Sendable, Equatable, CustomStringConvertible {
    package var origin: SettingOrigin
    /// The path of the key (`timeouts.header`, `routes[2].to`); empty if the problem is the whole source.
    package var key: String
    package var what: String
    package var remedy: String

    package init(origin: SettingOrigin, key: String, what: String, remedy: String) {
        self.origin = origin
        self.key = key
        self.what = what
        self.remedy = remedy
    }

    package var description: String {
        var parts: [String] = []
        if origin != .fallback { parts.append("\(origin)") }
        if !key.isEmpty { parts.append(key) }
        parts.append(what)
        return parts.joined(separator: ": ") + (what.hasSuffix(".") ? " " : ". ") + remedy
    }
}

/// Where a value came from, from the weakest to the strongest.
package enum SettingOrigin: Sendable, Equatable, CustomStringConvertible {
    /// The built-in default.
    case fallback
    /// The configuration file.
    case file(path: String, line: Int)
    /// An environment variable. `line` is set inside a value of several lines.
    case variable(name: String, line: Int?)
    /// The file that a variable ending in `_FILE`, or a key or flag ending in `file`, points at.
    indirect case contents(of: String, namedBy: SettingOrigin, line: Int?)
    /// A flag on the command line, with its dashes.
    case flag(name: String)

    package var description: String {
        switch self {
        case .fallback: "default"
        case .file(let path, let line): "\(path):\(line)"
        case .variable(let name, let line): name + (line.map { " line \($0)" } ?? "")
        case .contents(let path, let origin, let line): "\(origin) (\(path)\(line.map { ":\($0)" } ?? ""))"
        case .flag(let name): name
        }
    }

    /// Of two sources the one with the larger rank wins.
    package var rank: Int {
        switch self {
        case .fallback: 0
        case .file: 1
        case .variable: 2
        case .flag: 3
        case .contents(_, let origin, _): origin.rank
        }
    }
}

/// A value and where it came from.
package struct Setting<Value: Sendable>: Sendable {
    package var value: Value
    package var origin: SettingOrigin

    package init(_ value: Value, _ origin: SettingOrigin) {
        self.value = value
        self.origin = origin
    }
}

extension Setting: Equatable where Value: Equatable {}

/// What a parser of one value says when it refuses: the text of a problem without the place and the key.
package struct Complaint: Error, Sendable, Equatable {
    package var what: String
    package var remedy: String

    package init(_ what: String, _ remedy: String) {
        self.what = what
        self.remedy = remedy
    }
}
