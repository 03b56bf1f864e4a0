package import Formats

/// The stored record of a CA that accepts no orders at the moment, because it is out of order, or limits or rejects the
/// account. It applies to all names and replicas, and is removed when the CA has accepted an order.
package struct AuthorityHold: StoredRecord {
    /// The time of the first failure, by the CA's clock as far as that is known.
    package var since: UnixTime
    /// The time of the next attempt, which one replica makes with one name.
    package var notBefore: UnixTime
    /// The time in seconds from the write of this version to ``notBefore``. A replica whose clock is wrong waits for no
    /// longer than this.
    package var pause: Int64
    /// The failure, for display.
    package var error: RenewalState.LastError
    /// The fingerprint of the CA's settings, if the operator has to change something. With other settings the hold is
    /// not in effect.
    package var settings: String?
    package var others: [String: JSONValue] = [:]

    /// Creates the record after a failure.
    ///
    /// - Parameter old: The record that it replaces, if the CA accepted no orders before either.
    init(_ error: RenewalState.LastError, pause: Int64, settings: String?, replacing old: AuthorityHold?) {
        since = old?.since ?? error.at
        notBefore = error.at + pause
        self.pause = pause
        self.error = error
        self.settings = settings
        others = old?.others ?? [:]
    }

    package init(_ reader: DocumentReader) throws(ACMEMessageError) {
        guard let error = try reader.object("error") else { throw reader.error("error", "is missing") }
        since = try reader.time("since")
        notBefore = try reader.time("not_before")
        pause = min(max(try reader.integer("pause") ?? 0, 0), AuthorityGate.Timing.longestPause)
        self.error = try RenewalState.LastError(error)
        settings = try reader.optionalString("settings")
    }

    package var fields: [String: JSONValue] {
        var fields: [String: JSONValue] = [
            "since": .string(since.rfc3339), "not_before": .string(notBefore.rfc3339), "pause": .integer(pause),
            "error": .object(error.fields),
        ]
        fields["settings"] = settings.map { .string($0) }
        return fields
    }
}
