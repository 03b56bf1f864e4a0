import Formats

/// The kind of a file in a backup, determined by its name: `v2/` and its path in the store.
package enum BackupItem: Equatable, Sendable {
    /// A version of a value, cluster.json included.
    case value(StoreKey, version: UInt64)
    /// `keys/<id>`.
    case key(id: String)

    static let manifest = "hopgate-backup.json"
    static let prefix = "v2/"

    static let agents: StoreKey = "agents"
    /// The folders of values; below all but the first they may be at any depth.
    static let folders: [StoreKey] = [agents, "acme", "certs"]

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
            let isAgent = parent.parent == Self.agents
            guard isAgent || Self.folders.dropFirst().contains(where: { parent.path.hasPrefix("\($0)/") }),
                let version = VersionName.version(path.name, key: parent)
            else { return nil }
            self = .value(parent, version: version)
        }
    }

    /// The path in the store.
    package var path: String {
        switch self {
        case .value(let key, let version): "\(key)/\(VersionName.name(of: version, key: key))"
        case .key(let id): "\(ClusterDocument.keyFolder)/\(id)"
        }
    }

    /// The highest number of bytes of such a file.
    var sizeLimit: Int {
        switch self {
        case .value: VersionFile.sizeLimit
        case .key: ClusterKey.size
        }
    }
}
