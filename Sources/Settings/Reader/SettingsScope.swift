package import Formats

/// A map of settings: the whole configuration, a section of it (`timeouts`), or one item of a list (`routes[0]`).
///
/// A getter looks its key up in all sources of the scope's ``SettingsReader``, parses the value of the one with the
/// highest precedence, reports a problem or records the effective value, and marks the key as known.
/// ``SettingsReader/finish()`` reports the remaining keys as unknown. Typed getters are in `SettingsScope+Typed`, lists
/// and maps in `SettingsScope+Collections` and `SettingsItem`.
package final class SettingsScope {
    /// The reader, which owns the scopes and outlives them.
    unowned let reader: SettingsReader
    /// The path of the map, as in `timeouts` or `routes[0]`; empty for the root.
    package let path: String
    let source: SettingsSource
    private let entries: [String: YAMLNode.Entry]
    /// The keys in the order of the file.
    private let order: [String]
    private let mark: YAMLNode.Mark?
    /// Whether variables and flags exist for the keys. Items of lists have none.
    let isOverridable: Bool
    /// Whether the scope's settings are omitted from the summary, because the caller records a summary of its own.
    package var isQuiet = false
    private var known: [String] = []
    /// The alternative locations of keys in the file, by key; see ``synonym(_:in:of:)``.
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

    /// The origin of the map itself.
    package var origin: SettingOrigin { mark == nil ? .fallback : source.origin(mark) }

    /// The full path of a key of this map.
    package func fullKey(_ key: String) -> String { path.isEmpty ? key : "\(path).\(key)" }

    /// The name of the variable of a key.
    package func variableName(_ key: String) -> String {
        reader.prefix + "_" + fullKey(key).uppercased().replacing(".", with: "_")
    }

    func flagName(_ key: String) -> String { SettingsReader.flagName(fullKey(key)) }

    /// Reports a problem with a key of this map.
    package func report(_ key: String, _ origin: SettingOrigin, _ problem: FormatError) {
        reader.report(origin, fullKey(key), problem.what, problem.remedy)
    }

    // MARK: Lookup

    /// The value from the source with the highest precedence: flag, variable, file. `alias` is a second, shorter flag.
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

    /// The value from the file, from this map or from the key's synonym.
    func entry(_ key: String) -> SettingsValue? {
        markKnown(key)
        let own = entries[key].map { SettingsValue(.node($0.node), source, mark: $0.keyMark) }
        guard let synonym = synonyms[key], let other = synonym.scope.entry(synonym.key) else { return own }
        guard let own else { return other }
        if case .node(let mine) = own.content, case .node(let theirs) = other.content, mine.isEquivalent(to: theirs) {
            return own
        }
        let what = "differs from \(synonym.scope.fullKey(synonym.key)) (\(other.origin))"
        report(key, own.origin, FormatError(what, "Keep one of the two."))
        return .unusable
    }

    private func markKnown(_ key: String) {
        known.append(key)
        if let synonym = synonyms[key] { synonym.scope.markKnown(synonym.key) }
    }

    /// Allows the file to give `key` in another location as well. If both are given they must be equivalent. Variables
    /// and flags are those of `key`. Must be called before the key is read.
    package func synonym(_ name: String, in scope: SettingsScope, of key: String) {
        synonyms[key] = (scope, name)
    }

    /// Whether any source gives the key, with a valid value or not.
    package func isGiven(_ key: String) -> Bool {
        let isOverridden = isOverridable && (reader.hasFlag(flagName(key)) || reader.hasVariable(variableName(key)))
        return isOverridden || entries[key] != nil
    }

    // MARK: Single values

    /// The result of reading one value.
    enum Outcome<Value: Sendable> {
        case absent
        /// The value is invalid, which has been reported.
        case bad
        case value(Setting<Value>)
    }

    func read<Value: Sendable>(
        _ key: String,
        flag: String?,
        parse: (String) throws(FormatError) -> Value
    ) -> Outcome<Value> {
        guard let found = lookUp(key, flag: flag) else { return .absent }
        return scalar(found, key: key, parse: parse)
    }

    func scalar<Value: Sendable>(
        _ found: SettingsValue,
        key: String,
        parse: (String) throws(FormatError) -> Value
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

    static func text(of node: YAMLNode) throws(FormatError) -> String {
        switch node.value {
        case .scalar(let text): return text
        case .null: throw FormatError("has no value", "Give one or remove the key.")
        default: throw FormatError("is \(node.kind), not a single value", "Write it as \"key: value\".")
        }
    }

    /// Reads a setting with a default.
    package func value<Value: Sendable>(
        _ key: String,
        flag: String? = nil,
        default fallback: Value,
        show: (Value) -> String = { "\($0)" },
        parse: (String) throws(FormatError) -> Value
    ) -> Setting<Value> {
        var result = Setting(fallback, .fallback)
        if case .value(let value) = read(key, flag: flag, parse: parse) { result = value }
        record(key, show(result.value), result.origin)
        return result
    }

    /// Reads an optional setting. `absent` is its value in the summary if it is not given.
    package func optional<Value: Sendable>(
        _ key: String,
        flag: String? = nil,
        absent: String = "not set",
        show: (Value) -> String = { "\($0)" },
        parse: (String) throws(FormatError) -> Value
    ) -> Setting<Value>? {
        guard case .value(let value) = read(key, flag: flag, parse: parse) else {
            record(key, absent, .fallback)
            return nil
        }
        record(key, show(value.value), value.origin)
        return value
    }

    /// Reads a required setting. Returns `nil` if it is missing or invalid, which is reported, so that `finish()` will
    /// throw.
    package func required<Value: Sendable>(
        _ key: String,
        flag: String? = nil,
        show: (Value) -> String = { "\($0)" },
        parse: (String) throws(FormatError) -> Value
    ) -> Setting<Value>? {
        switch read(key, flag: flag, parse: parse) {
        case .absent:
            reportMissing(key, flag: flag)
            return nil
        case .bad:
            return nil
        case .value(let value):
            record(key, show(value.value), value.origin)
            return value
        }
    }

    /// Reports a required setting as missing.
    package func reportMissing(_ key: String, flag: String? = nil) {
        guard !reader.fileFailed else { return }
        let ways = ["\"\(key)\" in the file", variableName(key), "--\(flag ?? flagName(key))"]
        let remedy = isOverridable ? "Set \(ways[0]), \(ways[1]) or \(ways[2])." : "Add \"\(key): …\"."
        report(key, isOverridable ? .fallback : origin, FormatError("is missing", remedy))
    }

    /// Reports that neither of two settings is given, one of which is required.
    ///
    /// - Parameter which: The reason for preferring the second, to be read after "which".
    package func reportMissing(_ key: String, or other: String, which: String) {
        guard !reader.fileFailed else { return }
        func ways(_ key: String) -> String {
            "\"\(key)\" in the file, \(variableName(key)) or --\(flagName(key))"
        }
        let remedy = "Set \(ways(key)); or \(ways(other)), which \(which)."
        report(key, .fallback, FormatError("is missing, and so is \(other)", remedy))
    }

    /// Records the effective value of a setting for the summary. Does nothing for items of lists, which the caller
    /// summarises, and for a quiet scope. `shown` must not contain a secret.
    package func record(_ key: String, _ shown: String, _ origin: SettingOrigin) {
        if isOverridable && !isQuiet { reader.record(fullKey(key), shown, origin) }
    }

    // MARK: Unknown keys

    func reportUnknownKeys() {
        for key in order where !known.contains(key) {
            guard let entry = entries[key] else { continue }
            let remedy: String
            let parts = key.split(separator: ".", maxSplits: 1)
            if reader.isFull {
                remedy = ""
            } else if parts.count == 2, known.contains(String(parts[0])) {
                remedy = "Write \(parts[0]): {\(parts[1]): …}."
            } else if let guess = nearest(to: key, among: known) {
                remedy = "Did you mean \(guess)?"
            } else {
                remedy = "Remove it. Known here: \(Set(known).sorted().joined(separator: ", "))."
            }
            let place = path.isEmpty ? "" : " in \(path)"
            reader.report(source.origin(entry.keyMark), "", "unknown key \(quoted(key))\(place)", remedy)
        }
    }
}
