/// One item of a list whose items have more than one form.
package struct SettingsItem {
    package enum Form {
        case value(String)
        case list([Setting<String>])
        /// Its keys are known ones when they were read from this, so that a map in a wrong place is one problem.
        case map(() -> SettingsScope)

        /// What a message calls it.
        package var kind: String {
            switch self {
            case .value: "a single value"
            case .list: "a list"
            case .map: "a map"
            }
        }
    }

    /// `names[0]`, within the scope that was read.
    package let key: String
    package let origin: SettingOrigin
    package let form: Form
}

extension SettingsScope {
    /// A list whose items have more than one form: single values, lists of them, or maps. What is no list stands for a
    /// list of one. In a variable or flag single values are separated by commas; YAML text works as well.
    ///
    /// - Returns: nil: it is not given, or cannot be used, which is reported. Items that cannot be used are left out.
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
