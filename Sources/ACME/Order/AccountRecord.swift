package import Formats

/// An account at a CA as it is stored. The key must be stored before it is used in a request: then any number of
/// registrations, by any replica, result in one account (RFC 8555 §7.3.1).
package struct AccountRecord: StoredRecord {
    /// The directory URL of the CA.
    package let directory: ACMEURL
    package let key: AccountKey
    /// The account URL, or `nil` if the account is not registered yet.
    package var url: ACMEURL?
    /// The e-mail addresses that were last sent to the CA.
    package var contacts: [String]
    package var others: [String: JSONValue] = [:]

    package init(directory: ACMEURL, key: AccountKey = AccountKey()) {
        self.directory = directory
        self.key = key
        url = nil
        contacts = []
    }

    package init(_ reader: DocumentReader) throws(ACMEMessageError) {
        directory = try reader.ownURL("directory")
        guard let key = AccountKey(pem: try reader.string("key")) else {
            throw reader.error("key", "is not a P-256 key")
        }
        self.key = key
        url = try reader.optionalURL("url", from: directory)
        contacts = try reader.strings("contacts") ?? []
    }

    package var fields: [String: JSONValue] {
        var fields: [String: JSONValue] = [
            "directory": .string(directory.text), "key": .string(key.pem),
            "contacts": .array(contacts.map { .string($0) }),
        ]
        fields["url"] = url.map { .string($0.text) }
        return fields
    }
}

extension AccountRecord: CustomStringConvertible {
    /// A summary without the key.
    package var description: String { "account \(url?.text ?? "not registered") of \(directory)" }
}
