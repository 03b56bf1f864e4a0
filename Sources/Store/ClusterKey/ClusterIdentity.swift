import Formats

/// The identity of the cluster that a store belongs to, and the cluster's keys.
package struct ClusterIdentity: Sendable, Equatable {
    package let id: String
    package let keyring: ClusterKeyring
    /// Whether the keys are those of a mounted secret.
    package let isMounted: Bool
    /// The ids of the keys in ``keyring`` that have a file on the volume, in its order. Mounted keys should have none.
    package let keysOnVolume: [String]
    /// The keys that cluster.json lists and that cannot be used, such as a damaged file. They are never mounted, and
    /// none of them is the signing key. What they have sealed cannot be verified.
    package let unusableKeys: [UnusableKey]
    /// The version of cluster.json that this was read from.
    package let version: UInt64
    /// The id of the key that cluster.json is sealed with. With mounted keys this may be older than the signing key.
    package let sealedBy: String
    /// All fields of cluster.json, including those of later releases.
    let fields: [String: JSONValue]

    package static let format: Int64 = 1
    /// The field of cluster.json that names the target key of a rotation until the rotation is finished.
    static let rotationField = "rotating_to"
    /// The field of cluster.json that lists the retired keys whose files are not known to be deleted.
    static let retiredField = "retired"

    /// Whether a valid key is on the volume, so that a user who can read the volume controls the cluster; `store check`
    /// reports it.
    package var isKeyOnVolume: Bool { !keysOnVolume.isEmpty }

    /// Describes where each key is, for people, in the order of the keyring.
    ///
    /// - Parameter folder: The path of `STORE/v2`.
    package func keyDescriptions(in folder: String) -> [String] {
        keyring.keys.map { key in
            guard isMounted else { return "\(key.id) (on the volume)" }
            guard keysOnVolume.contains(key.id) else { return "\(key.id) (mounted)" }
            let path = "\(folder)/\(ClusterDocument.keyFolder)/\(key.id)"
            return "\(key.id) (mounted; also on the volume: rm \(shellWord(path)))"
        }
    }

    /// The ids of the keys that cluster.json lists. With mounted keys these may be others than those in ``keyring``.
    package var listedKeys: [String] { fields["keys"]?.strings ?? [] }

    /// The ids of the retired keys whose files are not known to be deleted, without any that is valid.
    package var retiredKeys: [String] {
        let listed = listedKeys
        return (fields[Self.retiredField]?.strings ?? []).filter { StoreKey.isComponent($0) && !listed.contains($0) }
    }

    /// The target key of the rotation in progress, or `nil` if there is none.
    package var rotatingTo: ClusterKey? {
        fields[Self.rotationField]?.string.flatMap { keyring[$0] }
    }
}

/// A key of the cluster whose file cannot be used, and why.
package struct UnusableKey: Sendable, Equatable {
    package let id: String
    package let problem: StoreError
}

/// The content of `cluster.json`: created once by one link(2), changed only by a key rotation.
package struct ClusterDocument {
    package static let key = StoreKey.clusterDocument
    static let keyFolder = "keys"

    let fields: [String: JSONValue]
    let cluster: String
    let keys: [String]

    init(cluster: String, keys: [String], keeping fields: [String: JSONValue] = [:]) {
        var fields = fields
        fields["format"] = .integer(ClusterIdentity.format)
        fields["cluster"] = .string(cluster)
        fields["keys"] = .array(keys.map { .string($0) })
        self.fields = fields
        self.cluster = cluster
        self.keys = keys
    }

    /// Parses a sealed or unsealed document. The MAC is not verified here.
    package init(_ bytes: [UInt8], place: String) throws(StoreError) {
        guard var fields = [String: JSONValue](json: bytes), let format = fields["format"]?.integer else {
            throw StoreError(.corrupt, place, "is not a cluster.json; \(StoreLayout.remedy(for: .clusterDocument))")
        }
        guard format <= ClusterIdentity.format else {
            throw StoreError.laterFormat(place, format, reads: ClusterIdentity.format)
        }
        guard let cluster = fields["cluster"]?.string, let keys = fields["keys"]?.strings, !keys.isEmpty,
            keys.count <= ClusterKeyFile.keyLimit, keys.allSatisfy({ StoreKey.isComponent($0) })
        else {
            let remedy = StoreLayout.remedy(for: .clusterDocument)
            throw StoreError(.corrupt, place, "is not a complete cluster.json; \(remedy)")
        }
        fields["mac"] = nil
        self.fields = fields
        self.cluster = cluster
        self.keys = keys
    }

    func sealed(version: UInt64, with key: ClusterKey) -> [UInt8] {
        SealedDocument.seal(fields.json, .cluster, context: Self.context(version), with: key)
    }

    static func context(_ version: UInt64) -> String { "cluster.json/\(version)" }
}
