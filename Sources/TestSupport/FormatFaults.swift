import Formats

/// Checks the stored form of a JSON document with a field "format": its golden bytes are decoded and encoded to the
/// same bytes, an unknown field is kept in every object, a later format is refused with both numbers, and so is every
/// truncation. A sealed document is refused with a bit of any byte changed; another one must not crash the reader then.
///
/// - Parameters:
///   - golden: The stored bytes.
///   - keepsUnknownFields: Whether the document is ever written again by a process that did not create it.
///   - maps: The fields whose objects map names to values, and so have no fields of their own.
///   - seal: Seals a JSON object as the golden bytes are sealed, or `nil` if they are not sealed.
///   - recode: Decodes stored bytes, and encodes the value again.
/// - Returns: The faults.
package func formatFaults(
    _ golden: [UInt8],
    keepsUnknownFields: Bool = true,
    maps: Set<String> = [],
    seal: (([UInt8]) -> [UInt8])? = nil,
    recode: ([UInt8]) throws -> [UInt8]
) -> [String] {
    guard var fields = [String: JSONValue](json: golden), let format = fields["format"]?.integer else {
        return ["the golden bytes are no JSON object with a format"]
    }
    var faults: [String] = []
    do {
        let encoded = try recode(golden)
        if encoded != golden { faults.append("is encoded as \(String(decoding: encoded, as: UTF8.self))") }
    } catch {
        faults.append("is refused: \(error)")
    }

    fields["mac"] = nil
    let sealed = seal ?? { $0 }
    if keepsUnknownFields {
        let stored = sealed(withUnknownFields(fields, maps).json)
        if (try? recode(stored)) != stored { faults.append("an unknown field is not kept") }
    }
    let later = fields.merging(["format": .integer(format + 1)]) { $1 }
    do {
        _ = try recode(sealed(later.json))
        faults.append("a later format is accepted")
    } catch {
        let message = "\(error)"
        if !message.contains("is \(format + 1); this release reads \(format)"),
            !message.contains("has format \(format + 1)") || !message.contains("this release reads \(format)")
        {
            faults.append("the message about a later format is: \(message)")
        }
    }

    for index in golden.indices {
        if (try? recode(Array(golden[..<index]))) != nil { faults.append("the first \(index) bytes are accepted") }
        var changed = golden
        changed[index] ^= 1 << (index % 8)
        // The hexadecimal digits of a seal may be in either case.
        let isAccepted = (try? recode(changed)) != nil
        if isAccepted, seal != nil, index % 8 != 5 || index > 110 { faults.append("byte \(index) can be changed") }
    }
    return faults
}

/// Adds an unknown field to an object and all objects in it, except maps.
private func withUnknownFields(_ fields: [String: JSONValue], _ maps: Set<String>) -> [String: JSONValue] {
    func extended(_ value: JSONValue) -> JSONValue {
        switch value {
        case .object(let fields): .object(withUnknownFields(fields, maps))
        case .array(let values): .array(values.map(extended))
        default: value
        }
    }
    var all = fields
    for (name, value) in fields where !maps.contains(name) { all[name] = extended(value) }
    all["later"] = .object(["a": .array([.integer(1), .null])])
    return all
}
