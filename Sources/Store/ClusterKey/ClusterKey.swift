internal import Crypto
import Formats
internal import FoundationEssentials

/// A secret that all replicas share. Everything else that they have in common comes out of it by HKDF (RFC 5869, SHA-256),
/// so there is nothing else to make, race for, or renew.
package struct ClusterKey: Sendable, Equatable {
    /// Documents that carry a MAC, each kind with a key of its own.
    package enum Purpose: String, CaseIterable, Sendable {
        case card
        case cluster
        case credential
        case backup
    }

    package static let size = 32

    private let secret: [UInt8]
    /// By purpose; made once, because thousands of documents are verified with them.
    private let keyed: [Purpose: KeyedHash]
    /// Names the key without telling anything of it; also shows whether a key file is damaged.
    package let id: String

    /// - Parameter secret: at least 32 bytes that nobody can guess.
    package init(secret: [UInt8]) {
        precondition(secret.count >= Self.size)
        self.secret = secret
        self.keyed = Dictionary(
            uniqueKeysWithValues: Purpose.allCases.map { purpose in
                (purpose, KeyedHash(key: Self.derive(secret, "mac/\(purpose.rawValue)", 32)))
            }
        )
        self.id = Hex.string(Self.derive(secret, "key-id", 16))
    }

    /// A new one.
    package static func generate(random: () -> UInt64) -> ClusterKey {
        var secret: [UInt8] = []
        while secret.count < size { withUnsafeBytes(of: random()) { secret.append(contentsOf: $0) } }
        return ClusterKey(secret: secret)
    }

    /// The bytes that stand in `keys/<id>`, and in a backup.
    package var storedBytes: [UInt8] { secret }

    /// The seed of the private key of the mesh's CA.
    package var meshAuthoritySeed: [UInt8] { derive("mesh-ca", 32) }

    /// The bearer token of the admin port: 64 hexadecimal digits.
    package var adminToken: String { Hex.string(derive("admin-token", 32)) }

    /// The id of a cluster that this key founds.
    package var foundedClusterID: String { Hex.string(derive("cluster-id", 16)) }

    /// Any other secret of the cluster; `info` is its name and never changes.
    package func derive(_ info: String, _ count: Int) -> [UInt8] { Self.derive(secret, info, count) }

    /// HMAC-SHA-256 over the context and the bytes.
    ///
    /// - Parameter context: where the document stands, such as "agents/x/3": a copy elsewhere is not genuine.
    package func mac(_ purpose: Purpose, context: String, _ bytes: [UInt8]) -> [UInt8] {
        authenticate(purpose, context, bytes)
    }

    package func isMAC(_ mac: [UInt8], _ purpose: Purpose, context: String, of bytes: [UInt8]) -> Bool {
        let right = authenticate(purpose, context, bytes)
        guard right.count == mac.count else { return false }
        // In constant time.
        var difference: UInt8 = 0
        for (one, other) in zip(right, mac) { difference |= one ^ other }
        return difference == 0
    }

    private func authenticate(_ purpose: Purpose, _ context: String, _ bytes: [UInt8]) -> [UInt8] {
        guard let keyed = keyed[purpose] else { preconditionFailure("every purpose has a key") }
        // The context's length first, so that no byte of it can pass for one of the document.
        var writer = ByteWriter()
        writer.write(UInt32(context.utf8.count))
        writer.write(context.utf8)
        return keyed.code(writer.bytes, bytes)
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

/// The keys that count now: the first signs, all verify.
package struct ClusterKeyring: Sendable, Equatable {
    package let keys: [ClusterKey]

    package init(_ keys: [ClusterKey]) {
        precondition(!keys.isEmpty, "a cluster has a key")
        self.keys = keys
    }

    package var signing: ClusterKey { keys[0] }

    package subscript(id: String) -> ClusterKey? { keys.first { $0.id == id } }

    /// Each of them opens the admin port, so that a rotation locks nobody out.
    package var adminTokens: [String] { keys.map(\.adminToken) }
}

extension ClusterKeyring: CustomStringConvertible {
    /// Ids only; a key never gets into a log.
    package var description: String { "keys \(keys.map(\.id).joined(separator: ", "))" }
}

extension ClusterKey: CustomStringConvertible {
    package var description: String { "key \(id)" }
}
