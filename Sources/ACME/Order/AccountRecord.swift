import Formats

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
    /// The fields that this release does not know, which are kept when the record is written again.
    private var others: [String: JSONValue]

    package init(directory: ACMEURL, key: AccountKey = AccountKey()) {
        self.directory = directory
        self.key = key
        url = nil
        contacts = []
        others = [:]
    }

    package init(json bytes: [UInt8], place: String) throws(ACMEMessageError) {
        let reader = try DocumentReader(record: bytes, place)
        directory = try reader.ownURL("directory")
        guard let key = AccountKey(pem: try reader.string("key")) else {
            throw reader.error("key", "is not a P-256 key")
        }
        self.key = key
        url = try reader.optionalURL("url", from: directory)
        contacts = try reader.strings("contacts") ?? []
        others = reader.fields.filter { !Self.names.contains($0.key) }
    }

    private static let names: Set = ["format", "directory", "key", "url", "contacts"]

    package var json: [UInt8] {
        var fields = others
        fields["format"] = .integer(DocumentReader.recordFormat)
        fields["directory"] = .string(directory.text)
        fields["key"] = .string(key.pem)
        if let url { fields["url"] = .string(url.text) }
        fields["contacts"] = .array(contacts.map { .string($0) })
        return fields.json
    }
}

extension AccountRecord: CustomStringConvertible {
    /// A summary without the key.
    package var description: String { "account \(url?.text ?? "not registered") of \(directory)" }
}
