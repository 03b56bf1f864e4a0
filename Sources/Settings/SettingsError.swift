/// All problems of a configuration, reported together so that one correction is enough.
package struct SettingsError: Error, Sendable, Equatable, CustomStringConvertible {
    package var problems: [SettingsProblem]
    /// The number of further problems that were not kept.
    package var omitted = 0

    package init(problems: [SettingsProblem], omitted: Int = 0) {
        self.problems = problems
        self.omitted = omitted
    }

    /// One line per problem. Problems never contain secrets, so this may be printed and logged.
    package var description: String {
        var lines = problems.map(\.description)
        if omitted > 0 { lines.append("and \(omitted) more") }
        return lines.joined(separator: "\n")
    }
}

/// One problem of a configuration: its origin, the key, what is wrong, and the remedy.
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

/// The origin of a setting's value, in ascending order of precedence.
package enum SettingOrigin: Sendable, Equatable, CustomStringConvertible {
    /// The built-in default.
    case fallback
    /// The configuration file.
    case file(path: String, line: Int)
    /// An environment variable. `line` is set for a position in a value of several lines.
    case variable(name: String, line: Int?)
    /// The file that is named by a variable ending in `_FILE`, or by a key or flag ending in `file`.
    indirect case contents(of: String, namedBy: SettingOrigin, line: Int?)
    /// A flag on the command line, including its dashes.
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

    /// The precedence: the source with the higher rank wins.
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

/// A value and its origin.
package struct Setting<Value: Sendable>: Sendable {
    package var value: Value
    package var origin: SettingOrigin

    package init(_ value: Value, _ origin: SettingOrigin) {
        self.value = value
        self.origin = origin
    }
}

extension Setting: Equatable where Value: Equatable {}
