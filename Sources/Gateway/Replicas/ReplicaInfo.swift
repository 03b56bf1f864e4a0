import Formats
import Store

/// What a replica says of itself beside its heartbeat: `replicas/<incarnation>/card`, sealed with the cluster's key.
/// Written when the replica starts, and again when the cluster's keys change.
package struct ReplicaInfo: Sendable, Equatable {
    static let format: Int64 = 1

    package var name: String
    /// Of the binary.
    package var version: String
    /// Ids of the cluster keys that this replica verifies with, the one that it signs with first.
    package var keys: [String]

    package init(name: String, version: String, keys: [String]) {
        self.name = name
        self.version = version
        self.keys = keys
    }

    func sealed(for incarnation: Incarnation, with key: ClusterKey) -> [UInt8] {
        let fields: [String: JSONValue] = [
            "format": .integer(Self.format),
            // A binary reads format N and N-1; all write the lowest that every live card can read.
            "reads": .array([.integer(Self.format)]),
            "name": .string(name),
            "version": .string(version),
            "keys": .array(keys.map { .string($0) }),
        ]
        return SealedDocument.seal(fields.json, .replicaInfo, context: Self.context(incarnation), with: key)
    }

    init(_ bytes: [UInt8], of incarnation: Incarnation, with keyring: ClusterKeyring) throws(StoreError) {
        let place = Self.context(incarnation)
        let body = try SealedDocument.open(bytes, .replicaInfo, context: place, with: keyring, place: place)
        guard let fields = [String: JSONValue](json: body), let name = fields["name"]?.string,
            let version = fields["version"]?.string, let keys = fields["keys"]?.strings
        else { throw StoreError(.corrupt, place, "is not a whole card") }
        self.init(name: name, version: version, keys: keys)
    }

    private static func context(_ incarnation: Incarnation) -> String { "replicas/\(incarnation)/card" }
}
