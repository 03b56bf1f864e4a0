import Formats
package import Store

/// The description of a replica beside its heartbeat: the file `replicas/<incarnation>/card`, sealed with the cluster's
/// key. Written when the replica starts, and again when the cluster's keys change.
package struct ReplicaInfo: Sendable, Equatable {
    static let format: Int64 = 1

    package var name: String
    /// The release of the binary.
    package var version: String
    /// The ids of the cluster keys with which the replica verifies; it signs with the first.
    package var keys: [String]
    /// The address (`host:port`) at which other replicas reach it, or `nil` if it has none.
    package var mesh: String?

    package init(name: String, version: String, keys: [String], mesh: String? = nil) {
        self.name = name
        self.version = version
        self.keys = keys
        self.mesh = mesh
    }

    package func sealed(for incarnation: Incarnation, with key: ClusterKey) -> [UInt8] {
        var fields: [String: JSONValue] = [
            "format": .integer(Self.format),
            "name": .string(name),
            "version": .string(version),
            "keys": .array(keys.map { .string($0) }),
        ]
        fields["mesh"] = mesh.map { .string($0) }
        return SealedDocument.seal(fields.json, .replicaInfo, context: Self.context(incarnation), with: key)
    }

    /// Verifies and decodes the file of a replica.
    package init(_ bytes: [UInt8], of incarnation: Incarnation, with keyring: ClusterKeyring) throws(StoreError) {
        let place = Self.context(incarnation)
        let body: [UInt8]
        do throws(StoreError) {
            body = try SealedDocument.open(bytes, .replicaInfo, context: place, with: keyring, place: place)
        } catch {
            guard error.code == .foreign else { throw error }
            let remedy = "give all replicas the same keys (cluster_key_file)"
            throw StoreError(.foreign, error.place, "\(error.reason); \(remedy)")
        }
        let incomplete = StoreError(.corrupt, place, "is not a complete description of a replica")
        guard let fields = [String: JSONValue](json: body), let format = fields["format"]?.integer else {
            throw incomplete
        }
        guard format <= Self.format else {
            throw StoreError.laterFormat(place, format, reads: Self.format)
        }
        guard let name = fields["name"]?.string, let version = fields["version"]?.string,
            let keys = fields["keys"]?.strings
        else { throw incomplete }
        self.init(name: name, version: version, keys: keys, mesh: fields["mesh"]?.string)
    }

    private static func context(_ incarnation: Incarnation) -> String { "replicas/\(incarnation)/card" }
}
