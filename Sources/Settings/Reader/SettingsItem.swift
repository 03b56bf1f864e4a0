/// One item of a list whose items may be single values, lists or maps.
package struct SettingsItem {
    package enum Form {
        case value(String)
        case list([Setting<String>])
        /// A map. The scope is created on demand: its keys are checked only if it is read, so that a map in a wrong
        /// place is reported once, not once for each key.
        case map(() -> SettingsScope)

        /// The name of the form in messages.
        package var kind: String {
            switch self {
            case .value: "a single value"
            case .list: "a list"
            case .map: "a map"
            }
        }
    }

    /// The key within the scope that was read, as in `names[0]`.
    package let key: String
    package let origin: SettingOrigin
    package let form: Form
}

extension SettingsScope {
    /// Reads a list whose items may be single values, lists of them, or maps. A value that is not a list is a list of
    /// one item. In a variable or flag, single values are separated by commas, or YAML text.
    ///
    /// - Returns: `nil` if the list is not given, or cannot be used, which is reported. Items that cannot be used are
    ///   omitted.
    package func items(_ key: String, flag: String? = nil) -> (items: [SettingsItem], origin: SettingOrigin)? {
        guard let found = lookUp(key, flag: flag) else { return nil }
        if case .text(let text) = found.content, !Self.isYAML(text) {
            let texts = text.split(separator: ",").map(Self.trimmed).filter { !$0.isEmpty }
            let items = texts.enumerated().map { index, text in
                SettingsItem(key: "\(key)[\(index)]", origin: found.origin, form: .value(text))
            }
            return (items, found.origin)
        }
        guard let node = yaml(found, key: key) else { return nil }
        let nodes =
            switch node.value {
            case .sequence(let nodes): nodes
            case .null: [YAMLNode]()
            default: [node]
            }
        let items = nodes.enumerated().compactMap { index, node in item(node, "\(key)[\(index)]", found.source) }
        return (items, found.origin)
    }

    private func item(_ node: YAMLNode, _ key: String, _ source: SettingsSource) -> SettingsItem? {
        let origin = source.origin(node.mark)
        switch node.value {
        case .mapping:
            let (reader, path) = (reader, fullKey(key))
            let scope = {
                SettingsScope(reader: reader, path: path, node: node, source: source, isOverridable: false)
            }
            return SettingsItem(key: key, origin: origin, form: .map(scope))
        case .sequence(let nodes):
            let texts = nodes.enumerated().compactMap { index, node in
                text(of: node, "\(key)[\(index)]", source.origin(node.mark))
            }
            return SettingsItem(key: key, origin: origin, form: .list(texts))
        case .scalar, .null:
            return text(of: node, key, origin).map { SettingsItem(key: key, origin: origin, form: .value($0.value)) }
        }
    }

    private func text(of node: YAMLNode, _ key: String, _ origin: SettingOrigin) -> Setting<String>? {
        do {
            return Setting(try Self.text(of: node), origin)
        } catch {
            report(key, origin, error)
            return nil
        }
    }
}
