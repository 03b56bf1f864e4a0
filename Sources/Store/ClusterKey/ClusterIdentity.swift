import Formats

/// Which cluster a store belongs to, and its keys.
package struct ClusterIdentity: Sendable, Equatable {
    package let id: String
    package let keyring: ClusterKeyring
    /// True: whoever can read the volume is the cluster. `store check` says so.
    package let isKeyOnVolume: Bool
    /// The version of cluster.json that says so.
    package let version: UInt64
    /// The key that cluster.json is sealed with. With mounted keys another one may sign by now.
    package let sealedBy: String
    /// All fields of cluster.json, those of later releases too.
    let fields: [String: JSONValue]

    package static let format: Int64 = 1
    /// The field of cluster.json that names the key which a rotation leads to, until the rotation is finished.
    static let rotationField = "rotating_to"

    /// The key that a rotation under way leads to.
    package var rotatingTo: ClusterKey? {
        fields[Self.rotationField]?.string.flatMap { keyring[$0] }
    }

    /// A cluster of one process, which ends with it.
    package static func ephemeral() -> ClusterIdentity {
        let key = ClusterKey.generate { UInt64.random(in: .min ... .max) }
        let document = ClusterDocument(cluster: key.foundedClusterID, keys: [key.id])
        return ClusterIdentity(
            id: document.cluster,
            keyring: ClusterKeyring([key]),
            isKeyOnVolume: false,
            version: 0,
            sealedBy: key.id,
            fields: document.fields
        )
    }
}

/// `cluster.json`: decided once by one link(2), changed only by a rotation of keys.
struct ClusterDocument {
    static let key: StoreKey = "cluster.json"
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

    /// Reads the object, sealed or not; whether it is genuine is not judged here.
    init(_ bytes: [UInt8], place: String) throws(StoreError) {
        guard var fields = [String: JSONValue](json: bytes), let format = fields["format"]?.integer else {
            throw StoreError(.corrupt, place, "is not a cluster.json; restore it from a backup")
        }
        guard format <= ClusterIdentity.format else {
            throw StoreError(.newerFormat, place, "has format \(format); this release reads \(ClusterIdentity.format)")
        }
        guard let cluster = fields["cluster"]?.string, let keys = fields["keys"]?.strings, !keys.isEmpty,
            keys.count <= ClusterKeyFile.keyLimit, keys.allSatisfy({ StoreKey.isComponent($0) })
        else { throw StoreError(.corrupt, place, "is not a whole cluster.json; restore it from a backup") }
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
