import Formats

/// An account at a CA as it is kept in the store. The key has to be there before anything is sent with it: then any
/// number of attempts to register it, by whomever, end with one account (RFC 8555 section 7.3.1).
package struct AccountRecord: Equatable, Sendable {
    /// The CA's directory.
    package let directory: ACMEURL
    package let key: AccountKey
    /// What the CA calls it; nil until it is registered.
    package var url: ACMEURL?
    /// The e-mail addresses that the CA was told.
    package var contacts: [String]
    /// Fields that this release does not know.
    private var others: [String: JSONValue]

    package init(directory: ACMEURL, key: AccountKey = AccountKey()) {
        self.directory = directory
        self.key = key
        url = nil
        contacts = []
        others = [:]
    }

    /// - Parameter place: for messages.
    package init(json bytes: [UInt8], place: String) throws(ACMEMessageError) {
        let reader = try DocumentReader(bytes, place)
        directory = try reader.ownURL("directory")
        guard let key = AccountKey(pem: try reader.string("key")) else { throw reader.error("key", "is no P-256 key") }
        self.key = key
        url = try reader.optionalURL("url", from: directory)
        contacts = try reader.strings("contacts") ?? []
        others = reader.fields.filter { !Self.names.contains($0.key) }
    }

    private static let names: Set = ["directory", "key", "url", "contacts"]

    package var json: [UInt8] {
        var fields = others
        fields["directory"] = .string(directory.text)
        fields["key"] = .string(key.pem)
        if let url { fields["url"] = .string(url.text) }
        fields["contacts"] = .array(contacts.map { .string($0) })
        return fields.json
    }
}

extension AccountRecord: CustomStringConvertible {
    /// Without the key.
    package var description: String { "account \(url?.text ?? "not registered") of \(directory)" }
}

extension DocumentReader {
    /// A URL of a document of our own.
    func ownURL(_ name: String) throws(ACMEMessageError) -> ACMEURL {
        guard let url = ACMEURL(try string(name)) else { throw error(name, "is no https URL") }
        return url
    }
}
