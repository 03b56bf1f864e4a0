import Crypto
import Formats
import FoundationEssentials

/// A secret that all replicas share. All other shared secrets are derived from it by HKDF (RFC 5869, SHA-256), so
/// nothing else has to be created, agreed on or renewed.
package struct ClusterKey: Sendable, Equatable {
    /// The kinds of document that carry a MAC. Each has its own derived key.
    package enum Purpose: Int, CaseIterable, Sendable {
        /// The information that a replica publishes (the file `card`).
        case replicaInfo, cluster, credential, certificate, challenge, backup

        /// The name from which the key is derived.
        package var label: String { self == .replicaInfo ? "card" : "\(self)" }
    }

    package static let size = 32

    private let secret: [UInt8]
    /// The MAC keys in the order of the purposes, derived once because thousands of documents are verified with them.
    private let keyed: [KeyedHash]
    /// Identifies the key without revealing it; also shows whether a key file is damaged.
    package let id: String

    /// - Parameter secret: At least 32 unpredictable bytes.
    package init(secret: [UInt8]) {
        precondition(secret.count >= Self.size)
        self.secret = secret
        keyed = Purpose.allCases.map { KeyedHash(key: Self.derive(secret, "mac/\($0.label)", 32)) }
        id = Hex.string(Self.derive(secret, "key-id", 16))
    }

    /// Creates a random key.
    package static func generate() -> ClusterKey {
        ClusterKey(secret: (0..<size).map { _ in .random(in: .min ... .max) })
    }

    /// The bytes as stored in `keys/<id>` and in a backup.
    package var storedBytes: [UInt8] { secret }

    /// The seed for the private key of the mesh's CA.
    package var meshAuthoritySeed: [UInt8] { derive("mesh-ca", 32) }

    /// The bearer token of the admin port, 64 hexadecimal digits.
    package var adminToken: String { Hex.string(derive("admin-token", 32)) }

    /// The id of a cluster that is founded with this key.
    package var foundedClusterID: String { Hex.string(derive("cluster-id", 16)) }

    /// Derives any other secret of the cluster.
    ///
    /// - Parameters:
    ///   - info: The name of the secret, which never changes.
    ///   - count: The number of bytes.
    package func derive(_ info: String, _ count: Int) -> [UInt8] { Self.derive(secret, info, count) }

    /// Returns the HMAC-SHA-256 of context and bytes.
    ///
    /// - Parameter context: The location of the document, such as "agents/x/3", so that a copy elsewhere is not valid.
    package func mac(_ purpose: Purpose, context: String, _ bytes: [UInt8]) -> [UInt8] {
        authenticate(purpose, context, bytes)
    }

    /// Whether a MAC is valid. Compares in constant time.
    package func isMAC(_ mac: [UInt8], _ purpose: Purpose, context: String, of bytes: [UInt8]) -> Bool {
        constantTimeEquals(authenticate(purpose, context, bytes), mac)
    }

    private func authenticate(_ purpose: Purpose, _ context: String, _ bytes: [UInt8]) -> [UInt8] {
        // The context's length comes first, so that the boundary between context and document is unambiguous.
        var writer = ByteWriter()
        writer.write(UInt32(context.utf8.count))
        writer.write(context.utf8)
        return keyed[purpose.rawValue].code(writer.bytes, bytes)
    }

    private static func derive(_ secret: [UInt8], _ info: String, _ count: Int) -> [UInt8] {
        let key = HKDF<SHA256>.deriveKey(
            inputKeyMaterial: SymmetricKey(data: secret),
            info: Array("hopgate/v1/\(info)".utf8),
            outputByteCount: count
        )
        return key.withUnsafeBytes { Array($0) }
    }

    package static func == (left: ClusterKey, right: ClusterKey) -> Bool { left.id == right.id }
}

/// The valid keys of a cluster: the first signs, all verify.
package struct ClusterKeyring: Sendable, Equatable {
    package let keys: [ClusterKey]

    package init(_ keys: [ClusterKey]) {
        precondition(!keys.isEmpty, "a cluster has a key")
        self.keys = keys
    }

    package var signing: ClusterKey { keys[0] }

    package subscript(id: String) -> ClusterKey? { keys.first { $0.id == id } }

    /// The admin tokens of all keys. Each is accepted, so that a rotation locks no client out.
    package var adminTokens: [String] { keys.map(\.adminToken) }
}

extension ClusterKeyring: CustomStringConvertible {
    /// The ids only: a key never appears in a log.
    package var description: String { "keys \(keys.map(\.id).joined(separator: ", "))" }
}

extension ClusterKey: CustomStringConvertible {
    package var description: String { "key \(id)" }
}
