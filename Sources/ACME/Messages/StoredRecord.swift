package import Formats

/// A record that the replicas share: a JSON object with the number of its format. Fields that this release does not
/// know are kept when the record is written again.
package protocol StoredRecord: Equatable, Sendable {
    init(_ reader: DocumentReader) throws(ACMEMessageError)

    /// The fields that this release knows.
    var fields: [String: JSONValue] { get }
    /// The fields that it does not know.
    var others: [String: JSONValue] { get set }
}

extension StoredRecord {
    /// Parses a stored record.
    ///
    /// - Parameter place: The name of the record in error messages.
    package init(json bytes: [UInt8], place: String) throws(ACMEMessageError) {
        let reader = try DocumentReader(record: bytes, place)
        try self.init(reader)
        let known = fields
        others = reader.fields.filter { known[$0.key] == nil && $0.key != DocumentReader.formatField }
    }

    package var json: [UInt8] {
        var all = others.merging(fields) { $1 }
        all[DocumentReader.formatField] = .integer(DocumentReader.recordFormat)
        return all.json
    }
}
