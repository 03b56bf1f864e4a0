package import ACME
import Crypto
import Formats
package import Store

/// The keys of the store under which replicas share challenge tasks.
extension ChallengeTask {
    package static let prefix = StoreLayout.challenges

    /// The key of the task with this token: a digest, because tokens are case-sensitive and the file names of some
    /// volumes are not.
    package static func storeKey(token: String) -> StoreKey {
        let digest = SHA256.hash(data: Array(token.utf8)).prefix(16)
        do {
            return try prefix.child(Hex.string(digest))
        } catch {
            preconditionFailure("hexadecimal digits are a name: \(error)")
        }
    }

    package var storeKey: StoreKey { Self.storeKey(token: token) }

    /// The document as it is stored: sealed, so that only a process with the key of the cluster makes gateways answer.
    package func sealed(with signing: ClusterKey) -> [UInt8] {
        SealedDocument.seal(document, at: storeKey, with: signing)
    }

    /// Reads the document of ``sealed(with:)`` without its MAC, stored under `key`; see
    /// ``ChallengeTask/init(document:place:)``.
    ///
    /// - Throws: Also if the key is not the one of the task's token.
    package init(document bytes: [UInt8], at key: StoreKey) throws(ACMEMessageError) {
        try self.init(document: bytes, place: key.path)
        guard storeKey == key else {
            throw ACMEMessageError("\(key.path).token", "belongs to another key of the store")
        }
    }
}
