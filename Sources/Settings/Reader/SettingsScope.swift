/// A map of settings: the whole configuration, a section of it (`timeouts`), or one item of a list (`routes[0]`).
///
/// Every key a getter asks for becomes a known one; what is left at the end is reported as unknown.
package final class SettingsScope {
    /// Owns the scopes; they are of no use without it.
    unowned let reader: SettingsReader
    /// `timeouts`, `routes[0]`; empty for the root.
    package let path: String
    let source: SettingsSource
    private let entries: [String: YAMLNode.Entry]
    /// Keys in the file's order.
    private let order: [String]
    private let mark: YAMLNode.Mark?
    /// Whether variables and flags exist for its keys; items of lists have none.
    let isOverridable: Bool
    /// Leaves its settings out of the summary, for a reader that sums them up itself.
    package var isQuiet = false
    private var known: [String] = []
    /// By key: another place in the file where the same may be said.
    private var synonyms: [String: (scope: SettingsScope, key: String)] = [:]

    init(reader: SettingsReader, path: String, node: YAMLNode?, source: SettingsSource, isOverridable: Bool) {
        self.reader = reader
        self.path = path
        self.source = source
        self.isOverridable = isOverridable
        mark = node?.mark
        let list = node?.entries ?? []
        entries = Dictionary(uniqueKeysWithValues: list.map { ($0.key, $0) })
        order = list.map(\.key)
        reader.register(self)
    }

    /// Where the map itself stands.
    package var origin: SettingOrigin { mark == nil ? .fallback : source.origin(mark) }

    /// The full path of one of its keys.
    package func fullKey(_ key: String) -> String { path.isEmpty ? key : "\(path).\(key)" }

    package func variableName(_ key: String) -> String {
        reader.prefix + "_" + fullKey(key).uppercased().replacing(".", with: "_")
    }

    func flagName(_ key: String) -> String { SettingsReader.flagName(fullKey(key)) }

    /// Records a problem with one of its keys.
    package func report(_ key: String, _ origin: SettingOrigin, _ complaint: Complaint) {
        reader.report(origin, fullKey(key), complaint.what, complaint.remedy)
    }

    // MARK: Looking up

    /// The strongest source's value: flag, variable, file. `alias` is a second, shorter flag.
    func lookUp(_ key: String, flag alias: String? = nil) -> SettingsValue? {
        if isOverridable {
            let flag = reader.flag([flagName(key)] + (alias.map { [$0] } ?? []), key: fullKey(key))
            let variable = reader.variable(variableName(key), key: fullKey(key))
            if let value = flag ?? variable {
                markKnown(key)
                return value
            }
        }
        return entry(key)
    }

    /// The file's value.
    func entry(_ key: String) -> SettingsValue? {
        markKnown(key)
        let own = entries[key].map { SettingsValue(.node($0.node), source, mark: $0.keyMark) }
        guard let synonym = synonyms[key], let other = synonym.scope.entry(synonym.key) else { return own }
        guard let own else { return other }
        if case .node(let mine) = own.content, case .node(let theirs) = other.content, mine.says(theirs) { return own }
        let what = "is not what \(synonym.scope.fullKey(synonym.key)) says (\(other.origin))"
        report(key, own.origin, Complaint(what, "Keep one of the two."))
        return .unusable
    }

    private func markKnown(_ key: String) {
        known.append(key)
        if let synonym = synonyms[key] { synonym.scope.markKnown(synonym.key) }
    }

    /// Lets the file say `key` in another place too. If both are there they have to say the same. Variables and flags
    /// are those of `key`. Declared before the key is read.
    package func synonym(_ name: String, in scope: SettingsScope, of key: String) {
        synonyms[key] = (scope, name)
    }

    /// Whether any source gives the key, whatever its value is worth.
    package func isGiven(_ key: String) -> Bool {
        let isOverridden = isOverridable && (reader.hasFlag(flagName(key)) || reader.hasVariable(variableName(key)))
        return isOverridden || entries[key] != nil
    }

    // MARK: Single values

    /// What reading one value came to.
    enum Outcome<Value: Sendable> {
        case absent
        /// Reported already.
        case bad
        case value(Setting<Value>)
    }

    func read<Value: Sendable>(
        _ key: String,
        flag: String?,
        parse: (String) throws(Complaint) -> Value
    ) -> Outcome<Value> {
        guard let found = lookUp(key, flag: flag) else { return .absent }
        return scalar(found, key: key, parse: parse)
    }

    func scalar<Value: Sendable>(
        _ found: SettingsValue,
        key: String,
        parse: (String) throws(Complaint) -> Value
    ) -> Outcome<Value> {
        do {
            return switch found.content {
            case .unusable: .bad
            case .text(let text): .value(Setting(try parse(text), found.origin))
            case .node(let node): .value(Setting(try parse(try Self.text(of: node)), found.origin))
            }
        } catch {
            report(key, found.origin, error)
            return .bad
        }
    }

    static func text(of node: YAMLNode) throws(Complaint) -> String {
        switch node.value {
        case .scalar(let text): return text
        case .null: throw Complaint("has no value", "Give one or remove the key.")
        default: throw Complaint("is \(node.kind), not a single value", "Write it as \"key: value\".")
        }
    }

    /// A setting with a default.
    package func value<Value: Sendable>(
        _ key: String,
        flag: String? = nil,
        default fallback: Value,
        show: (Value) -> String = { "\($0)" },
        parse: (String) throws(Complaint) -> Value
    ) -> Setting<Value> {
        var result = Setting(fallback, .fallback)
        if case .value(let value) = read(key, flag: flag, parse: parse) { result = value }
        note(key, show(result.value), result.origin)
        return result
    }

    /// A setting that may be left out. `absent` is what the summary says then.
    package func optional<Value: Sendable>(
        _ key: String,
        flag: String? = nil,
        absent: String = "not set",
        show: (Value) -> String = { "\($0)" },
        parse: (String) throws(Complaint) -> Value
    ) -> Setting<Value>? {
        guard case .value(let value) = read(key, flag: flag, parse: parse) else {
            note(key, absent, .fallback)
            return nil
        }
        note(key, show(value.value), value.origin)
        return value
    }

    /// A setting without which there is no start. nil: the problem is recorded, `finish()` will throw.
    package func required<Value: Sendable>(
        _ key: String,
        flag: String? = nil,
        show: (Value) -> String = { "\($0)" },
        parse: (String) throws(Complaint) -> Value
    ) -> Setting<Value>? {
        switch read(key, flag: flag, parse: parse) {
        case .absent:
            reportMissing(key, flag: flag)
            return nil
        case .bad:
            return nil
        case .value(let value):
            note(key, show(value.value), value.origin)
            return value
        }
    }

    package func reportMissing(_ key: String, flag: String? = nil) {
        guard !reader.fileFailed else { return }
        let ways = ["\"\(key)\" in the file", variableName(key), "--\(flag ?? flagName(key))"]
        let remedy = isOverridable ? "Set \(ways[0]), \(ways[1]) or \(ways[2])." : "Add \"\(key): …\"."
        report(key, isOverridable ? .fallback : origin, Complaint("is missing", remedy))
    }

    /// Neither of two settings is given, of which one has to be.
    ///
    /// - Parameter which: what speaks for the second.
    package func reportMissing(_ key: String, or other: String, which: String) {
        guard !reader.fileFailed else { return }
        func ways(_ key: String) -> String {
            "\"\(key)\" in the file, \(variableName(key)) or --\(flagName(key))"
        }
        let remedy = "Set \(ways(key)); or \(ways(other)), which \(which)."
        report(key, .fallback, Complaint("is missing, and so is \(other)", remedy))
    }

    /// One line of the summary, for a reader that has made its value of several.
    package func show(_ key: String, _ shown: String, _ origin: SettingOrigin) { note(key, shown, origin) }

    /// One line of the summary; items of lists are summed up by whoever reads them.
    func note(_ key: String, _ shown: String, _ origin: SettingOrigin) {
        if isOverridable && !isQuiet { reader.note(fullKey(key), shown, origin) }
    }

    // MARK: Unknown keys

    func reportUnknownKeys() {
        for key in order where !known.contains(key) {
            guard let entry = entries[key] else { continue }
            let remedy: String
            if reader.isFull {
                remedy = ""
            } else if let guess = nearest(to: key, among: known) {
                remedy = "Did you mean \(guess)?"
            } else {
                remedy = "Remove it. Known here: \(known.sorted().joined(separator: ", "))."
            }
            let place = path.isEmpty ? "" : " in \(path)"
            reader.report(source.origin(entry.keyMark), "", "unknown key \(quoted(key))\(place)", remedy)
        }
    }
}
