import Formats

/// A text that contains settings: it turns positions in that text into origins.
enum SettingsSource {
    case file(path: String)
    case variable(name: String)
    /// A file that holds one value.
    case contents(path: String, namedBy: SettingOrigin)
    case flag(name: String)

    /// The origin of a position in the text, or of the whole text if `mark` is `nil`.
    func origin(_ mark: YAMLNode.Mark?) -> SettingOrigin {
        switch self {
        case .file(let path): .file(path: path, line: mark?.line ?? 1)
        case .variable(let name): .variable(name: name, line: mark.flatMap { $0.line > 1 ? $0.line : nil })
        case .contents(let path, let namedBy): .contents(of: path, namedBy: namedBy, line: mark?.line)
        case .flag(let name): .flag(name: name)
        }
    }
}

/// The unparsed value of a setting from its source with the highest precedence.
struct SettingsValue {
    enum Content {
        /// The text of a flag, a variable or a file that holds one value.
        case text(String)
        /// A node of the configuration file.
        case node(YAMLNode)
        /// The setting is given but could not be obtained, which has been reported.
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

/// One line of `config check`: a setting, its effective value and the origin of the value.
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
    /// The settings as a table of three aligned columns. Values are escaped already, so that each setting takes one
    /// line.
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
    /// The entries if the node is a map, else `nil`.
    var entries: [Entry]? {
        if case .mapping(let entries) = value { entries } else { nil }
    }
}
