/// A text that settings stand in, and how a place in it is named.
enum SettingsSource {
    case file(path: String)
    case variable(name: String)
    /// A file that holds one value.
    case contents(path: String, namedBy: SettingOrigin)
    case flag(name: String)

    /// A place in it; nil means the whole.
    func origin(_ mark: YAMLNode.Mark?) -> SettingOrigin {
        switch self {
        case .file(let path): .file(path: path, line: mark?.line ?? 1)
        case .variable(let name): .variable(name: name, line: mark.flatMap { $0.line > 1 ? $0.line : nil })
        case .contents(let path, let namedBy): .contents(of: path, namedBy: namedBy, line: mark?.line)
        case .flag(let name): .flag(name: name)
        }
    }
}

/// The winner among the sources of one setting, not parsed yet.
struct SettingsValue {
    enum Content {
        /// From a flag, a variable or a file of one value.
        case text(String)
        /// From the configuration file.
        case node(YAMLNode)
        /// It was given but could not be obtained; the problem is already reported.
        case unusable
    }

    var content: Content
    var source: SettingsSource
    var mark: YAMLNode.Mark?

    init(_ content: Content, _ source: SettingsSource, mark: YAMLNode.Mark? = nil) {
        self.content = content
        self.source = source
        self.mark = mark
    }

    static let unusable = SettingsValue(.unusable, .flag(name: ""))

    var origin: SettingOrigin { source.origin(mark) }
}

/// One line of `config check`: a setting, what it came to be, and why.
package struct EffectiveSetting: Sendable, Equatable {
    package var key: String
    package var shown: String
    package var origin: SettingOrigin

    package init(key: String, shown: String, origin: SettingOrigin) {
        self.key = key
        self.shown = shown
        self.origin = origin
    }
}

extension [EffectiveSetting] {
    /// Three aligned columns. Values are escaped, so that a line stays a line.
    package var table: String {
        let keys = map(\.key.count).max() ?? 0
        let values = Swift.min(map(\.shown.count).max() ?? 0, 48)
        return map { setting in
            let key = setting.key + String(repeating: " ", count: keys - setting.key.count)
            let value = setting.shown + String(repeating: " ", count: Swift.max(0, values - setting.shown.count))
            return "\(key)  \(value)  \(setting.origin)"
        }.joined(separator: "\n")
    }
}

extension YAMLNode {
    /// The entries of a map, else nil.
    var entries: [Entry]? {
        if case .mapping(let entries) = value { entries } else { nil }
    }
}
