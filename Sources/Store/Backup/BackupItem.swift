import Formats

/// The kind of a file in a backup, determined by its name.
package enum BackupItem: Equatable, Sendable {
    /// The value of a key, whose path is the name.
    case value(StoreKey)
    /// `keys/<id>`.
    case key(id: String)

    static let manifest = "hopgate-backup.json"
    static let cluster = BackupItem.value(.clusterDocument)

    /// Fails for names that a backup may not hold.
    package init?(_ name: String) {
        guard let key = try? StoreKey(name) else { return nil }
        if key.parent?.path == ClusterDocument.keyFolder {
            guard key.name.utf8.count == 32, Hex.bytes(key.name) != nil else { return nil }
            self = .key(id: key.name)
        } else {
            guard key == .clusterDocument || key.parent.map(StoreLayout.kept.contains) == true else { return nil }
            self = .value(key)
        }
    }

    /// The name in the archive.
    package var name: String {
        switch self {
        case .value(let key): key.path
        case .key(let id): "\(ClusterDocument.keyFolder)/\(id)"
        }
    }

    var isCredential: Bool {
        if case .value(let key) = self { key.parent == StoreLayout.credentials } else { false }
    }

    /// Whether it is a certificate that is served. The root of the development CA is none.
    var isCertificate: Bool {
        guard case .value(let key) = self else { return false }
        return key.parent == StoreLayout.certificates && key != StoreLayout.developmentCA
    }

    var isKey: Bool { if case .key = self { true } else { false } }

    /// The highest number of bytes of such a file.
    var sizeLimit: Int { isKey ? ClusterKey.size : Volume.valueLimit }
}
