package import Formats

/// The stored state of obtaining one certificate, which all replicas respect, also after a restart. A value
/// without fields other than its format is the state of a name that was never tried. All times are by the CA's clock.
package struct RenewalState: StoredRecord {
    /// The number of consecutive failures.
    package var failures = 0
    /// The earliest time of the next attempt, or `nil` if there is no restriction.
    package var nextTry: UnixTime?
    /// The earliest time of the next attempt at each CA, by directory URL.
    package var holds: [String: UnixTime] = [:]
    package var renewal: RenewalPlan?
    package var lastError: LastError?
    /// The fingerprint of the settings under which ``nextTry`` was set. With other settings a new attempt is made.
    package var settings: String?
    package var others: [String: JSONValue] = [:]

    /// The last failure, for display. No decision depends on it except the order of challenges.
    package struct LastError: Equatable, Sendable {
        /// The raw value of an ``ACMEFailure/Code``. A newer release may write others.
        package var code: String
        package var message: String
        package var remedy: String
        package var identifier: String?
        /// The directory URL of the CA.
        package var authority: String
        package var at: UnixTime
        /// The fields that this release does not know, which are kept when the failure is written again.
        var others: [String: JSONValue] = [:]
    }

    package init() {}

    /// Whether the last attempt failed at the validation of a name.
    package var hasFailedValidation: Bool {
        guard let code = lastError.flatMap({ ACMEFailure.Code(rawValue: $0.code) }) else { return false }
        switch code {
        case .connection, .dns, .incorrectResponse, .tls, .unauthorized, .orderInvalid, .presentationFailed: return true
        default: return false
        }
    }

    /// The latest time of an attempt that was made, is planned or is not allowed before; `nil` for a name that was
    /// never tried.
    package var lastUse: UnixTime? {
        let times = [nextTry, lastError?.at, renewal?.at, renewal?.nextPoll, holds.values.max()]
        return times.compactMap(\.self).max()
    }

    package init(_ reader: DocumentReader) throws(ACMEMessageError) {
        failures = Int(min(max(try reader.integer("failures") ?? 0, 0), 1_000_000))
        nextTry = try reader.optionalTime("next_try")
        settings = try reader.optionalString("settings")
        if let holds = try reader.object("holds") {
            for authority in holds.fields.keys { self.holds[authority] = try holds.time(authority) }
        }
        renewal = try reader.object("renewal").map { reader throws(ACMEMessageError) in try RenewalPlan(reader) }
        lastError = try reader.object("last_error").map { reader throws(ACMEMessageError) in try LastError(reader) }
    }

    package var fields: [String: JSONValue] {
        var fields: [String: JSONValue] = ["failures": .integer(Int64(failures))]
        fields["next_try"] = nextTry.map { .string($0.rfc3339) }
        fields["settings"] = settings.map { .string($0) }
        if !holds.isEmpty { fields["holds"] = .object(holds.mapValues { .string($0.rfc3339) }) }
        fields["renewal"] = renewal.map { .object($0.fields) }
        fields["last_error"] = lastError.map { .object($0.fields) }
        return fields
    }
}

extension RenewalState.LastError {
    init(_ failure: ACMEFailure, authority: String, at: UnixTime) {
        self.init(
            code: failure.code.rawValue,
            message: "\(failure)",
            remedy: failure.remedy,
            identifier: failure.identifier,
            authority: authority,
            at: at
        )
    }

    init(_ reader: DocumentReader) throws(ACMEMessageError) {
        code = try reader.string("code")
        message = try reader.string("message")
        remedy = try reader.optionalString("remedy") ?? ""
        identifier = try reader.optionalString("identifier")
        authority = try reader.string("authority")
        at = try reader.time("at")
        others = reader.fields.filter { !Self.names.contains($0.key) }
    }

    private static let names: Set = ["code", "message", "remedy", "identifier", "authority", "at"]

    var fields: [String: JSONValue] {
        var fields = others
        fields["code"] = .string(code)
        fields["message"] = .string(message)
        fields["remedy"] = .string(remedy)
        fields["authority"] = .string(authority)
        fields["at"] = .string(at.rfc3339)
        fields["identifier"] = identifier.map { .string($0) }
        return fields
    }
}

extension RenewalPlan {
    fileprivate init(_ reader: DocumentReader) throws(ACMEMessageError) {
        certificate = try reader.string("certificate")
        at = try reader.time("at")
        if let start = try reader.optionalTime("window_start"), let end = try reader.optionalTime("window_end") {
            window = Window(start: start, end: end)
        }
        explanation = try reader.optionalString("explanation")
        nextPoll = try reader.optionalTime("next_poll")
        earliest = try reader.optionalTime("earliest")
        others = reader.fields.filter { !Self.names.contains($0.key) }
    }

    private static let names: Set = [
        "certificate", "at", "window_start", "window_end", "explanation", "next_poll", "earliest",
    ]

    fileprivate var fields: [String: JSONValue] {
        var fields = others
        fields["certificate"] = .string(certificate)
        fields["at"] = .string(at.rfc3339)
        if let window {
            fields["window_start"] = .string(window.start.rfc3339)
            fields["window_end"] = .string(window.end.rfc3339)
        }
        fields["explanation"] = explanation.map { .string($0) }
        fields["next_poll"] = nextPoll.map { .string($0.rfc3339) }
        fields["earliest"] = earliest.map { .string($0.rfc3339) }
        return fields
    }
}
