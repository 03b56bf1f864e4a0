/// Merges a program's settings: flags over environment over file over defaults, and collects every problem.
///
/// Reading goes through `root` and its sections; a getter that meets a bad value records the problem and returns the
/// default, so that one run tells everything. `finish()` then looks for what nobody asked for and throws. Values that
/// getters returned mean something only if `finish()` did not throw.
///
/// Owned by the one function that loads a configuration; not for sharing.
package final class SettingsReader {
    /// `HOPGATE`: variables of this program begin with it and an underscore.
    let prefix: String
    private let environment: [String: String]
    /// By name without dashes, words joined by `-`.
    private var flags: [String: String] = [:]

    /// The file that was read, if any.
    package let file: String?
    private(set) var rootNode: YAMLNode?
    /// The file could not be read as a whole: what is missing may stand in it, so nothing is reported as missing.
    private(set) var fileFailed = false

    private var problems: [SettingsProblem] = []
    private var omitted = 0
    private static let mostProblems = 50

    private var scopes: [SettingsScope] = []
    private var knownVariables: Set<String>
    private var knownFlags: Set<String> = []
    private(set) package var effective: [EffectiveSetting] = []

    /// - Parameters:
    ///   - prefix: The program's name in variables, as in `HOPGATE`.
    ///   - file: The configuration file; nil takes the variable `<prefix>_CONFIG`, and without that there is none.
    ///   - environment: The whole environment; other programs' variables are ignored.
    ///   - flags: Values of flags by key, with `-` or `_` between words, with or without leading dashes.
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

    /// The whole configuration.
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
            // One byte more than the parser takes, so that it is the parser that complains about the size.
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

    /// Parses YAML from any source and reports its problems.
    func parse(_ bytes: [UInt8], from source: SettingsSource, key: String) -> YAMLNode? {
        let (node, problems) = YAMLNode.parse(bytes)
        for problem in problems { report(source.origin(problem.mark), key, problem.what, problem.remedy) }
        return node
    }

    // MARK: Problems

    package func report(_ origin: SettingOrigin, _ key: String, _ what: String, _ remedy: String) {
        guard problems.count < Self.mostProblems else {
            omitted += 1
            return
        }
        problems.append(SettingsProblem(origin: origin, key: key, what: what, remedy: remedy))
    }

    var isFull: Bool { problems.count >= Self.mostProblems }

    /// Reports what is known to nobody, then throws if there was any problem at all.
    package func finish() throws(SettingsError) {
        for scope in scopes { scope.reportUnknownKeys() }
        reportUnknownVariables()
        reportUnknownFlags()
        guard problems.isEmpty else { throw SettingsError(problems: inOrder(problems), omitted: omitted) }
    }

    /// The file's problems by line, then the others as they were found.
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
            // Without the prefix: what all names share must not make them look alike.
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

    /// Itself, or its `_FILE` twin.
    func hasVariable(_ name: String) -> Bool {
        [name, name + "_FILE"].contains { environment[$0]?.isEmpty == false }
    }

    /// The value of the first of `names` that is set on the command line.
    func flag(_ names: [String], key: String) -> SettingsValue? {
        knownFlags.formUnion(names)
        let given = names.filter { flags[$0] != nil }
        guard let name = given.first, let value = flags[name] else { return nil }
        if given.count > 1 {
            report(.flag(name: "--\(name)"), key, "is also given by --\(given[1])", "Keep one of the two.")
        }
        return SettingsValue(.text(value), .flag(name: "--\(name)"))
    }

    /// The value of a variable or of the file that its `_FILE` twin names.
    ///
    /// An empty variable counts as not set: compose files pass `${X:-}` for what the user left out.
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

    /// Reads a value from a file: one trailing line break is removed, since editors and `echo` add it.
    ///
    /// - Parameter instead: Where the value itself would go, said if someone put a secret in place of the path.
    func contents(of path: String, namedBy: SettingOrigin, key: String, instead: String) -> SettingsValue {
        var bytes: [UInt8]
        do {
            bytes = try fileContents(path, limit: YAMLLimits().scalar)
        } catch {
            let remedy =
                masked(path) == path
                ? "Name a file that this process may read."
                : "A path belongs here; the value itself goes into \(instead)."
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

    /// Remembers what a setting came to be, for `config check`. `shown` must hold no secret.
    package func note(_ key: String, _ shown: String, _ origin: SettingOrigin) {
        effective.append(EffectiveSetting(key: key, shown: shown, origin: origin))
    }
}
