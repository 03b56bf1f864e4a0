import Formats

/// The kind of a file in a backup, determined by its name: `v2/` and its path in the store.
package enum BackupItem: Equatable, Sendable {
    /// A version of a value, cluster.json included.
    case value(StoreKey, version: UInt64)
    /// `keys/<id>`.
    case key(id: String)
    /// A file of a generation.
    case file(StoreKey, Generation, name: String)

    static let manifest = "hopgate-backup.json"
    static let prefix = "v2/"

    static let agents: StoreKey = "agents"
    /// The folders in which values and generations may be at any depth.
    static let folders: [StoreKey] = ["acme", "certs"]

    /// Fails for names that a backup may not hold.
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

    /// The path in the store.
    package var path: String {
        switch self {
        case .value(let key, let version): "\(key)/\(VersionName.name(of: version, key: key))"
        case .key(let id): "\(ClusterDocument.keyFolder)/\(id)"
        case .file(let key, let generation, let name): "\(key)/\(generation)/\(name)"
        }
    }

    /// The highest number of bytes of such a file.
    var sizeLimit: Int {
        switch self {
        case .value: VersionFile.sizeLimit
        case .key: ClusterKey.size
        case .file: Volume.generationFileLimit
        }
    }
}
