/// Any JSON value.
///
/// Stored documents are read into it rather than into structs, so that fields unknown to this release survive a
/// rewrite.
package enum JSONValue: Equatable, Sendable {
    case null
    case bool(Bool)
    case integer(Int64)
    /// Any other number, to the precision of a Double. Always finite.
    case number(Double)
    case string(String)
    case array([JSONValue])
    case object([String: JSONValue])

    @inlinable
    package var string: String? {
        if case .string(let value) = self { value } else { nil }
    }

    @inlinable
    package var integer: Int64? {
        if case .integer(let value) = self { value } else { nil }
    }

    @inlinable
    package var array: [JSONValue]? {
        if case .array(let values) = self { values } else { nil }
    }

    @inlinable
    package var object: [String: JSONValue]? {
        if case .object(let fields) = self { fields } else { nil }
    }

    /// The elements of an array of strings, or `nil` for any other value.
    package var strings: [String]? {
        guard case .array(let values) = self else { return nil }
        let strings = values.compactMap(\.string)
        return strings.count == values.count ? strings : nil
    }
}

extension JSONValue {
    /// Parses one strict JSON text.
    package init(json bytes: [UInt8], limits: JSONLimits = JSONLimits()) throws(JSONError) {
        self = try JSONParser.parse(bytes, limits)
    }

    /// The value as JSON on one line, with the fields of objects sorted by name.
    package var json: [UInt8] {
        var writer = JSONWriter()
        writer.write(self)
        return writer.bytes
    }
}

extension [String: JSONValue] {
    /// Parses the fields of a JSON object; `nil` if the text is anything else.
    package init?(json bytes: [UInt8], limits: JSONLimits = JSONLimits()) {
        guard let fields = (try? JSONValue(json: bytes, limits: limits))?.object else { return nil }
        self = fields
    }

    /// The object as JSON on one line, with its fields sorted by name.
    package var json: [UInt8] { JSONValue.object(self).json }
}
