import Formats

/// Merges a program's settings from flags, environment, configuration file and defaults, in this order of precedence,
/// and collects all problems.
///
/// 1. `init` reads and parses the configuration file.
/// 2. The caller reads settings through ``root``, a ``SettingsScope``, and its sections. A getter that finds an invalid
/// value reports the problem and returns the default, so that one run reports every problem. Each getter also marks its
/// key, variable and flag as known, and records the effective value for `config check`.
/// 3. ``finish()`` reports what is set but was never read, as unknown settings, and throws if there was any problem.
/// The values that getters returned are valid only if it does not throw.
///
/// The reader belongs to the one function that loads a configuration. It is not `Sendable`, and owns its scopes.
package final class SettingsReader {
    /// The prefix of the program's variables, followed by an underscore: `HOPGATE`.
    let prefix: String
    private let environment: [String: String]
    /// The values of flags, by name without leading dashes and with `-` between words.
    private var flags: [String: String] = [:]

    /// The path of the configuration file, or `nil` if there is none.
    package let file: String?
    private(set) var rootNode: YAMLNode?
    /// Whether the file could not be read as a whole. Missing settings are not reported then, since the file may
    /// contain them.
    private(set) var fileFailed = false

    private var problems: [SettingsProblem] = []
    private var omitted = 0
    private static let maximumProblems = 50

    private var scopes: [SettingsScope] = []
    private var knownVariables: Set<String>
    private var knownFlags: Set<String> = []
    private(set) package var effective: [EffectiveSetting] = []

    /// Whether the files that settings name may be no pipes and devices, for a thread that must not hang.
    package var readsOnlyRegularFiles = false

    /// Creates a reader and reads the configuration file.
    ///
    /// - Parameters:
    ///   - prefix: The program's name in variables, as in `HOPGATE`.
    ///   - file: The configuration file, or `nil` for the one that the variable `<prefix>_CONFIG` names, if it is set.
    ///   - environment: The whole environment. Other programs' variables are ignored.
    ///   - flags: The values of flags by key, with `-` or `_` between words, with or without leading dashes.
    package init(prefix: String, file: String?, environment: [String: String], flags: [String: String]) {
        self.prefix = prefix
        self.environment = environment
        let configVariable = "\(prefix)_CONFIG"
        knownVariables = [configVariable]
        let fromVariable = environment[configVariable].flatMap { $0.isEmpty ? nil : $0 }
        self.file = file ?? fromVariable
        for (name, value) in flags { self.flags[Self.flagName(name)] = value }
        if let path = self.file {
            let namedBy: SettingOrigin =
                file == nil ? .variable(name: configVariable, line: nil) : .flag(name: "--config")
            readFile(path, namedBy: namedBy)
        }
    }

    /// The scope of the whole configuration.
    package private(set) lazy var root = SettingsScope(
        reader: self,
        path: "",
        node: rootNode,
        source: .file(path: file ?? ""),
        isOverridable: true
    )

    private func readFile(_ path: String, namedBy: SettingOrigin) {
        let bytes: [UInt8]
        do {
            // One byte more than the parser accepts, so that the parser reports the size.
            bytes = try fileContents(path, limit: YAMLLimits().size + 1)
        } catch {
            fileFailed = true
            let what = "cannot read \(quoted(path)): \(error.reason)"
            return report(namedBy, "", what, "Name a readable file.")
        }
        let source = SettingsSource.file(path: path)
        rootNode = parse(bytes, from: source, key: "")
        if rootNode == nil { fileFailed = true }
        if let node = rootNode, node.value != .null, node.entries == nil {
            fileFailed = true
            report(
                source.origin(node.mark),
                "",
                "the file is \(node.kind), not a map",
                "Write keys, as in \"key: value\"."
            )
        }
    }

    /// Parses YAML from any source and reports its problems. `nil` if it cannot be parsed to its end.
    func parse(_ bytes: [UInt8], from source: SettingsSource, key: String) -> YAMLNode? {
        let (node, problems) = YAMLNode.parse(bytes)
        for problem in problems { report(source.origin(problem.mark), key, problem.what, problem.remedy) }
        return node
    }

    // MARK: Problems

    /// Reports a problem. Beyond a fixed number, problems are only counted.
    package func report(_ origin: SettingOrigin, _ key: String, _ what: String, _ remedy: String) {
        guard problems.count < Self.maximumProblems else {
            omitted += 1
            return
        }
        problems.append(SettingsProblem(origin: origin, key: key, what: what, remedy: remedy))
    }

    /// Whether no further problems are kept.
    var isFull: Bool { problems.count >= Self.maximumProblems }

    /// Reports keys, variables and flags that no getter has read.
    ///
    /// - Throws: ``SettingsError`` with all problems, if there are any.
    package func finish() throws(SettingsError) {
        for scope in scopes { scope.reportUnknownKeys() }
        reportUnknownVariables()
        reportUnknownFlags()
        try requireNoProblems()
    }

    /// Throws the problems so far, for a caller that reads only a few of the settings.
    package func requireNoProblems() throws(SettingsError) {
        guard problems.isEmpty else { throw SettingsError(problems: inOrder(problems), omitted: omitted) }
    }

    /// The file's problems by line, then the others in the order of their discovery.
    private func inOrder(_ problems: [SettingsProblem]) -> [SettingsProblem] {
        let keyed = problems.enumerated().map { index, problem in
            if case .file(_, let line) = problem.origin { return (line, index, problem) }
            return (Int.max, index, problem)
        }
        return keyed.sorted { ($0.0, $0.1) < ($1.0, $1.1) }.map(\.2)
    }

    private func reportUnknownVariables() {
        let unknown = environment.keys.filter { name in
            name.hasPrefix(prefix + "_") && !knownVariables.contains(name)
                && !ServiceLinks.matches(name: name.dropFirst(prefix.utf8.count + 1), value: environment[name] ?? "")
        }
        for name in unknown.sorted() {
            // Compared without the prefix, which would make all names similar.
            let start = prefix.utf8.count + 1
            let known = knownVariables.sorted().lazy.map { String($0.dropFirst(start)) }
            let guess = isFull ? nil : nearest(to: String(name.dropFirst(start)), among: known)
            report(
                .variable(name: escaped(name), line: nil),
                "",
                "no such setting",
                guess.map { "Did you mean \(prefix)_\($0)?" } ?? "Unset it."
            )
        }
    }

    private func reportUnknownFlags() {
        for name in flags.keys.sorted() where !knownFlags.contains(name) {
            let guess = isFull ? nil : nearest(to: name, among: knownFlags.sorted())
            report(
                .flag(name: "--\(name)"),
                "",
                "no such setting",
                guess.map { "Did you mean --\($0)?" } ?? "Remove it."
            )
        }
    }

    // MARK: Sources

    func register(_ scope: SettingsScope) { scopes.append(scope) }

    static func flagName(_ name: String) -> String {
        String(name.drop { $0 == "-" }.map { $0 == "_" || $0 == "." ? "-" : $0 })
    }

    func hasFlag(_ name: String) -> Bool { flags[name] != nil }

    /// Whether a variable, or the one with the suffix `_FILE`, is set.
    func hasVariable(_ name: String) -> Bool {
        [name, name + "_FILE"].contains { environment[$0]?.isEmpty == false }
    }

    /// The value of the first of `names` that is set on the command line. If several are set, that is reported.
    func flag(_ names: [String], key: String) -> SettingsValue? {
        knownFlags.formUnion(names)
        let given = names.filter { flags[$0] != nil }
        guard let name = given.first, let value = flags[name] else { return nil }
        if given.count > 1 {
            report(.flag(name: "--\(name)"), key, "is also given by --\(given[1])", "Keep one of the two.")
        }
        return SettingsValue(.text(value), .flag(name: "--\(name)"))
    }

    /// The value of a variable, or of the file that the variable with the suffix `_FILE` names.
    ///
    /// An empty variable counts as not set: compose files pass `${X:-}` for settings that the user left out.
    func variable(_ name: String, key: String) -> SettingsValue? {
        let fileName = name + "_FILE"
        knownVariables.formUnion([name, fileName])
        let value = environment[name].flatMap { $0.isEmpty ? nil : $0 }
        let path = environment[fileName].flatMap { $0.isEmpty ? nil : $0 }
        if value != nil, path != nil {
            report(.variable(name: name, line: nil), key, "is set and so is \(fileName)", "Keep one of the two.")
            return .unusable
        }
        if let value { return SettingsValue(.text(value), .variable(name: name)) }
        guard let path else { return nil }
        return contents(of: path, namedBy: .variable(name: fileName, line: nil), key: key, instead: name)
    }

    /// Reads a value from a file. One trailing line break is removed, since editors and `echo` add it.
    ///
    /// - Parameter instead: The place for the value itself, for the message if a secret was given instead of a path.
    func contents(of path: String, namedBy: SettingOrigin, key: String, instead: String) -> SettingsValue {
        var bytes: [UInt8]
        do {
            bytes = try fileContents(path, limit: YAMLLimits().scalar, onlyRegular: readsOnlyRegularFiles)
        } catch {
            let remedy =
                masked(path) == path
                ? "Name a file that this process may read."
                : "This must be a path; the value itself goes into \(instead)."
            report(namedBy, key, "cannot read \(quoted(path)): \(error.reason)", remedy)
            return .unusable
        }
        if bytes.last == 0x0A { bytes.removeLast() }
        if bytes.last == 0x0D { bytes.removeLast() }
        guard let text = String(validating: bytes, as: UTF8.self), !bytes.contains(0) else {
            report(namedBy, key, "the content of \(quoted(path)) is not text", "Is this the right file?")
            return .unusable
        }
        guard !text.isEmpty else {
            report(namedBy, key, "\(quoted(path)) is empty", "Write the value into it.")
            return .unusable
        }
        return SettingsValue(.text(text), .contents(path: path, namedBy: namedBy))
    }

    // MARK: Summary

    /// Records the effective value of a setting for `config check`. `shown` must not contain a secret.
    package func record(_ key: String, _ shown: String, _ origin: SettingOrigin) {
        effective.append(EffectiveSetting(key: key, shown: shown, origin: origin))
    }
}
