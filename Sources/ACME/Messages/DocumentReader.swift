import Formats

/// A strict reader of one JSON object. Known fields must have the right type; unknown ones are ignored. `null` is the
/// same as a missing field.
package struct DocumentReader {
    let fields: [String: JSONValue]
    /// The location of the object in error messages, such as `order.identifiers[3]`.
    let place: String

    /// Reads a message of a CA.
    init(_ bytes: [UInt8], _ place: String) throws(ACMEMessageError) {
        guard bytes.count <= ACMELimits.document else {
            throw ACMEMessageError(place, "has \(bytes.count) bytes; at most \(ACMELimits.document) are read")
        }
        try self.init(bytes, place, Self.limits)
    }

    /// The number of the format of records, which each of them has in its field "format".
    static let recordFormat: Int64 = 1
    static let formatField = "format"

    /// Reads a record that this client has written, which may be larger than any message of a CA: it combines several.
    init(record bytes: [UInt8], _ place: String) throws(ACMEMessageError) {
        try self.init(bytes, place, JSONLimits())
        guard let format = try integer(Self.formatField) else { throw error(Self.formatField, "is missing") }
        guard format == Self.recordFormat else {
            throw ACMEMessageError(
                "\(place).\(Self.formatField)",
                "is \(format); this release reads \(Self.recordFormat)",
                isLaterFormat: format > Self.recordFormat
            )
        }
    }

    private init(_ bytes: [UInt8], _ place: String, _ limits: JSONLimits) throws(ACMEMessageError) {
        let value: JSONValue
        do throws(JSONError) {
            value = try JSONValue(json: bytes, limits: limits)
        } catch {
            throw ACMEMessageError(place, "is not JSON that can be read: \(error)")
        }
        guard let fields = value.object else { throw ACMEMessageError(place, "is not a JSON object") }
        self.init(fields, place)
    }

    private static let limits: JSONLimits = {
        var limits = JSONLimits()
        limits.size = ACMELimits.document
        limits.depth = 16
        // An order of 100 names has about 700.
        limits.values = 4_096
        return limits
    }()

    private init(_ fields: [String: JSONValue], _ place: String) {
        self.fields = fields
        self.place = place
    }

    func error(_ name: String, _ reason: String) -> ACMEMessageError {
        ACMEMessageError("\(place).\(name)", reason)
    }

    private func value(_ name: String) -> JSONValue? {
        guard let value = fields[name], value != .null else { return nil }
        return value
    }

    func has(_ name: String) -> Bool { value(name) != nil }

    // MARK: Texts

    func optionalString(_ name: String) throws(ACMEMessageError) -> String? {
        guard let value = value(name) else { return nil }
        guard let string = value.string else { throw error(name, "is not a string") }
        return string
    }

    func string(_ name: String) throws(ACMEMessageError) -> String {
        guard let string = try optionalString(name) else { throw error(name, "is missing") }
        return string
    }

    /// Reads an optional text that is only displayed, and sanitises it.
    func displayText(_ name: String) throws(ACMEMessageError) -> String? {
        try optionalString(name).map { UntrustedText.sanitised($0) }
    }

    func strings(_ name: String) throws(ACMEMessageError) -> [String]? {
        guard let value = value(name) else { return nil }
        guard let strings = value.strings else { throw error(name, "is not a list of strings") }
        return strings
    }

    func enumValue<Choice: RawRepresentable<String>>(_ name: String) throws(ACMEMessageError) -> Choice {
        let text = try string(name)
        guard let choice = Choice(rawValue: text) else {
            throw error(name, "is \"\(UntrustedText.sanitised(text, limit: 40))\", which is not known here")
        }
        return choice
    }

    // MARK: Other values

    func bool(_ name: String) throws(ACMEMessageError) -> Bool? {
        guard let value = value(name) else { return nil }
        guard case .bool(let bool) = value else { throw error(name, "is neither true nor false") }
        return bool
    }

    func integer(_ name: String) throws(ACMEMessageError) -> Int64? {
        guard let value = value(name) else { return nil }
        guard let integer = value.integer else { throw error(name, "is not a whole number") }
        return integer
    }

    func optionalTime(_ name: String) throws(ACMEMessageError) -> UnixTime? {
        guard let text = try optionalString(name) else { return nil }
        guard let time = UnixTime(rfc3339: text) else { throw error(name, "is not an RFC 3339 time") }
        return time
    }

    func time(_ name: String) throws(ACMEMessageError) -> UnixTime {
        guard let time = try optionalTime(name) else { throw error(name, "is missing") }
        return time
    }

    /// Reads an optional URL.
    ///
    /// - Parameter origin: The directory URL of the CA that sent the document.
    func optionalURL(_ name: String, from origin: ACMEURL) throws(ACMEMessageError) -> ACMEURL? {
        guard let text = try optionalString(name) else { return nil }
        return try Self.url(text, "\(place).\(name)", from: origin)
    }

    /// Reads the URL of a record that this program wrote, for which there is no origin to check against.
    func ownURL(_ name: String) throws(ACMEMessageError) -> ACMEURL {
        guard let url = ACMEURL(try string(name)) else { throw error(name, "is not an https URL") }
        return url
    }

    func url(_ name: String, from origin: ACMEURL) throws(ACMEMessageError) -> ACMEURL {
        guard let url = try optionalURL(name, from: origin) else { throw error(name, "is missing") }
        return url
    }

    static func url(_ text: String, _ place: String, from origin: ACMEURL) throws(ACMEMessageError) -> ACMEURL {
        guard let url = ACMEURL(text) else {
            throw ACMEMessageError(place, "is not an https URL: \(UntrustedText.sanitised(text, limit: 80))")
        }
        guard origin.mayReference(url) else {
            throw ACMEMessageError(place, "leads to this machine, and the CA is not on it: \(url)")
        }
        return url
    }

    // MARK: Objects

    func object(_ name: String) throws(ACMEMessageError) -> DocumentReader? {
        guard let value = value(name) else { return nil }
        guard case .object(let fields) = value else { throw error(name, "is not an object") }
        return DocumentReader(fields, "\(place).\(name)")
    }

    /// Reads a list of objects. A missing field is an empty list.
    func objects(_ name: String, limit: Int) throws(ACMEMessageError) -> [DocumentReader] {
        guard let value = value(name) else { return [] }
        guard case .array(let values) = value else { throw error(name, "is not a list") }
        guard values.count <= limit else {
            throw error(name, "has \(values.count) elements; at most \(limit) are allowed")
        }
        var readers: [DocumentReader] = []
        for (index, value) in values.enumerated() {
            guard case .object(let fields) = value else { throw error("\(name)[\(index)]", "is not an object") }
            readers.append(DocumentReader(fields, "\(place).\(name)[\(index)]"))
        }
        return readers
    }
}

/// The reason why a document is not valid, and where in it.
package struct ACMEMessageError: Error, Equatable, Sendable, CustomStringConvertible {
    /// The location in the document, such as `order.identifiers[3].value`.
    package let place: String
    package let reason: String
    /// Whether the document is a record that a later release has written. It is not damaged, and must not be replaced.
    package let isLaterFormat: Bool

    package init(_ place: String, _ reason: String, isLaterFormat: Bool = false) {
        self.place = place
        self.reason = reason
        self.isLaterFormat = isLaterFormat
    }

    package var description: String { "\(place) \(reason)" }
}
