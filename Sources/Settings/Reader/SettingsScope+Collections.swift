package import Formats

extension SettingsScope {
    /// Returns a nested map whose keys have variables and flags as well: `timeouts.header` is
    /// `HOPGATE_TIMEOUTS_HEADER`. If the value is not a map, the problem is reported and the section is empty.
    package func section(_ key: String) -> SettingsScope {
        var node: YAMLNode?
        if let found = entry(key), case .node(let value) = found.content {
            if value.entries != nil {
                node = value
            } else if value.value != .null {
                report(key, found.origin, FormatError("is \(value.kind), not a map", "Write keys below it, indented."))
            }
        }
        let section = SettingsScope(
            reader: reader,
            path: fullKey(key),
            node: node,
            source: source,
            isOverridable: isOverridable
        )
        section.isQuiet = isQuiet
        return section
    }

    /// Reads a list of maps. In a variable or flag it is YAML text, as in `[{host: a.example, to: web/http}]`.
    package func maps(_ key: String) -> [SettingsScope] {
        guard let found = lookUp(key), let node = yaml(found, key: key) else { return [] }
        guard let items = items(node, found, key: key, form: "\"- key: value\"") else { return [] }
        return items.enumerated().compactMap { index, item in
            let name = "\(key)[\(index)]"
            guard item.entries != nil else {
                report(name, found.source.origin(item.mark), .notMap(item.kind))
                return nil
            }
            return SettingsScope(
                reader: reader,
                path: fullKey(name),
                node: item,
                source: found.source,
                isOverridable: false
            )
        }
    }

    /// Reads a list of single values. In a variable or flag they are separated by commas, or YAML text.
    ///
    /// - Parameters:
    ///   - isRequired: Whether a list that is missing or empty is a problem.
    ///   - absent: The summary's text for an empty list.
    package func list<Value: Sendable>(
        _ key: String,
        flag: String? = nil,
        isRequired: Bool = false,
        absent: String = "none",
        show: (Value) -> String = { "\($0)" },
        parse: (String) throws(FormatError) -> Value
    ) -> [Setting<Value>] {
        var result: [Setting<Value>] = []
        let found = lookUp(key, flag: flag)
        if let found {
            let texts = texts(found, key: key)
            if isRequired, texts?.isEmpty == true { reportEmpty(key, found) }
            for (index, text) in (texts ?? []).enumerated() {
                do {
                    result.append(Setting(try parse(try text.value.get()), text.origin))
                } catch {
                    report("\(key)[\(index)]", text.origin, error)
                }
            }
        }
        if isRequired, found == nil { reportMissing(key, flag: flag) }
        let shown = result.map { show($0.value) }.joined(separator: ", ")
        record(key, shown.isEmpty ? absent : shown, found?.origin ?? .fallback)
        return result
    }

    /// Reads a map from names to single values, in the order written. In a variable or flag: `name=value,name=value`.
    package func map<Value: Sendable>(
        _ key: String,
        flag: String? = nil,
        isRequired: Bool = false,
        show: (Value) -> String = { "\($0)" },
        parse: (_ name: String, _ value: String) throws(FormatError) -> Value
    ) -> [(name: String, value: Setting<Value>)] {
        guard let found = lookUp(key, flag: flag) else {
            if isRequired { reportMissing(key, flag: flag) }
            return []
        }
        var result: [(name: String, value: Setting<Value>)] = []
        let pairs = pairs(found, key: key)
        if isRequired, pairs?.isEmpty == true { reportEmpty(key, found) }
        for (name, text) in pairs ?? [] {
            do {
                let value = Setting(try parse(name, try text.value.get()), text.origin)
                result.append((name, value))
                record("\(key).\(name)", show(value.value), value.origin)
            } catch {
                report("\(key).\(escaped(name))", text.origin, error)
            }
        }
        return result
    }

    // MARK: Forms

    private typealias Text = Setting<Result<String, FormatError>>

    private func reportEmpty(_ key: String, _ found: SettingsValue) {
        report(key, found.origin, FormatError("is empty", "Give at least one."))
    }

    /// The items of a list as text, or `nil` if the value is not a list, which is reported.
    private func texts(_ found: SettingsValue, key: String) -> [Text]? {
        if case .text(let text) = found.content, !Self.isYAML(text) {
            return text.split(separator: ",").map(Self.trimmed).filter { !$0.isEmpty }
                .map { Setting(.success($0), found.origin) }
        }
        guard let node = yaml(found, key: key),
            let items = items(node, found, key: key, form: "\"- value\" lines or [a, b]")
        else { return nil }
        return items.map { item in Setting(Self.result(of: item), found.source.origin(item.mark)) }
    }

    /// The entries of a map as text, or `nil` if the value is not a map, which is reported.
    private func pairs(_ found: SettingsValue, key: String) -> [(String, Text)]? {
        if case .text(let text) = found.content, !Self.isYAML(text) { return pairs(inLine: text, found, key: key) }
        guard let node = yaml(found, key: key) else { return nil }
        switch node.value {
        case .null: return []
        case .mapping(let entries):
            return entries.map { ($0.key, Setting(Self.result(of: $0.node), found.source.origin($0.keyMark))) }
        default:
            let remedy = "Write \"name: value\" lines below it."
            report(key, found.origin, FormatError("is \(node.kind), not a map", remedy))
            return nil
        }
    }

    private func pairs(inLine text: String, _ found: SettingsValue, key: String) -> [(String, Text)]? {
        var isWhole = true
        var result: [(String, Text)] = []
        for item in text.split(separator: ",").map(Self.trimmed) where !item.isEmpty {
            let parts = item.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false).map(Self.trimmed)
            if parts.count < 2 {
                isWhole = false
                report(key, found.origin, FormatError("\(quoted(item)) has no =", "Write name=value, name=value."))
            } else if result.contains(where: { $0.0 == parts[0] }) {
                report(key, found.origin, FormatError("\(quoted(parts[0])) is given twice", "Keep one of the two."))
            } else {
                result.append((parts[0], Setting(.success(parts[1]), found.origin)))
            }
        }
        return result.isEmpty && !isWhole ? nil : result
    }

    private static func result(of node: YAMLNode) -> Result<String, FormatError> {
        do {
            return .success(try text(of: node))
        } catch {
            return .failure(error)
        }
    }

    /// The value as a YAML node, or `nil` if its text is not valid YAML, which is reported.
    func yaml(_ found: SettingsValue, key: String) -> YAMLNode? {
        switch found.content {
        case .node(let node): node
        case .text(let text): reader.parse(Array(text.utf8), from: found.source, key: fullKey(key))
        case .unusable: nil
        }
    }

    private func items(_ node: YAMLNode, _ found: SettingsValue, key: String, form: String) -> [YAMLNode]? {
        switch node.value {
        case .sequence(let items): return items
        case .null: return []
        default:
            report(key, found.origin, FormatError("is \(node.kind), not a list", "Write \(form)."))
            return nil
        }
    }

    /// Whether the text of a variable is YAML rather than the short form: it has brackets, several lines, or a key and
    /// its colon.
    static func isYAML(_ text: String) -> Bool {
        let start = text.drop { $0 == " " }
        return start.hasPrefix("[") && !start.hasPrefix("[:") && text.hasSuffix("]") || start.hasPrefix("{")
            || start.hasPrefix("- ") || text.contains("\n") || text.contains(": ")
    }

    static func trimmed(_ text: some StringProtocol) -> String {
        var rest = Substring(text)
        while rest.first == " " { rest.removeFirst() }
        while rest.last == " " { rest.removeLast() }
        return String(rest)
    }
}

extension FormatError {
    /// The error of an item of a list that has to be a map and is of another kind.
    package static func notMap(_ kind: String) -> FormatError {
        FormatError("is \(kind), not a map", "Write \"- key: value\".")
    }
}
