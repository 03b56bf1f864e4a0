/// A record that the replicas share: a JSON object with the number of its format. Fields that this release does not know
/// are kept when the record is written again.
package protocol StoredRecord: Equatable, Sendable {
    /// Parses a stored record.
    ///
    /// - Parameter place: The name of the record in error messages.
    init(json bytes: [UInt8], place: String) throws(ACMEMessageError)

    var json: [UInt8] { get }
}
