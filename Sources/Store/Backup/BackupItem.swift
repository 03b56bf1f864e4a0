import Formats

/// What one file of a backup is, by its name: `v1/` and its path in the store.
package enum BackupItem: Equatable, Sendable {
    /// A version of a value; of cluster.json too.
    case value(StoreKey, version: UInt64)
    /// `keys/<id>`.
    case key(id: String)
    /// A file of a generation.
    case file(StoreKey, Generation, name: String)

    static let manifest = "hopgate-backup.json"
    static let prefix = "v1/"

    static let agents: StoreKey = "agents"
    /// Where values and generations may stand at any depth.
    static let folders: [StoreKey] = ["acme", "certs"]

    /// Nil for what no backup holds.
    package init?(_ name: String) {
        guard name.hasPrefix(Self.prefix), let path = try? StoreKey(String(name.dropFirst(Self.prefix.count))),
            let parent = path.parent
        else { return nil }
        switch parent {
        case ClusterDocument.key:
            guard let version = VersionName.version(path.name, key: parent) else { return nil }
            self = .value(parent, version: version)
        case "keys":
            guard path.name.utf8.count == 32, Hex.bytes(path.name) != nil else { return nil }
            self = .key(id: path.name)
        default:
            guard let above = parent.parent else { return nil }
            if above == Self.agents, let version = VersionName.version(path.name, key: parent) {
                self = .value(parent, version: version)
                return
            }
            guard Self.folders.contains(where: { parent.path.hasPrefix("\($0)/") }) else { return nil }
            if let generation = Generation(parent.name), above.parent != nil {
                self = .file(above, generation, name: path.name)
            } else if let version = VersionName.version(path.name, key: parent) {
                self = .value(parent, version: version)
            } else {
                return nil
            }
        }
    }

    /// In the store.
    package var path: String {
        switch self {
        case .value(let key, let version): "\(key)/\(VersionName.name(of: version, key: key))"
        case .key(let id): "\(ClusterDocument.keyFolder)/\(id)"
        case .file(let key, let generation, let name): "\(key)/\(generation)/\(name)"
        }
    }

    /// The most bytes that such a file may have.
    var sizeLimit: Int {
        switch self {
        case .value: Volume.valueLimit
        case .key: ClusterKey.size
        case .file: Volume.generationFileLimit
        }
    }
}
