import Crypto
import Formats
package import Store

/// A task as a value of the store, so that every replica answers it.
extension ChallengeTask {
    package static let prefix: StoreKey = "acme/challenges"
    /// Bytes. Ours have less than 1 KiB.
    package static let documentLimit = 4_096
    private static let format: Int64 = 1

    /// Where the task with this token lies. The token itself is no name of a file: its case would count, which it does
    /// not on every volume.
    package static func storeKey(token: String) -> StoreKey {
        let digest = SHA256.hash(data: Array(token.utf8)).prefix(16)
        do {
            return try prefix.child(Hex.string(digest))
        } catch {
            preconditionFailure("hexadecimal digits are a name: \(error)")
        }
    }

    package var storeKey: StoreKey { Self.storeKey(token: token) }

    package var document: [UInt8] {
        var fields = fields
        fields["format"] = .integer(Self.format)
        return fields.json
    }

    /// Reads what somebody has written there, and takes nothing that a CA would not ask for: whoever may write the folder
    /// cannot make a gateway say what it likes.
    package init(document bytes: [UInt8], at key: StoreKey) throws(ACMEMessageError) {
        guard bytes.count <= Self.documentLimit else {
            throw ACMEMessageError(key.path, "has \(bytes.count) bytes; at most \(Self.documentLimit) are read")
        }
        let reader = try DocumentReader(bytes, key.path)
        guard let format = try reader.integer("format") else { throw reader.error("format", "is missing") }
        guard format == Self.format else {
            throw reader.error("format", "is \(format); this release reads \(Self.format)")
        }
        try self.init(reader)
        guard storeKey == key else { throw reader.error("token", "belongs to another place") }
        guard !name.description.hasPrefix("*.") else { throw reader.error("name", "is a wildcard") }
        // The token, a dot, and a SHA-256 in base64url (RFC 8555 section 8.1).
        let parts = keyAuthorization.utf8.split(separator: UInt8(ascii: "."), omittingEmptySubsequences: false)
        guard parts.count == 2, parts[0].elementsEqual(token.utf8), parts[1].count == 43,
            parts[1].allSatisfy(Base64URL.isDigit)
        else { throw reader.error("key_authorization", "is none for this token") }
    }
}
