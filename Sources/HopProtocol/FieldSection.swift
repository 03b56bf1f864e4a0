package import NIOCore

/// A section of HTTP fields as it travels. Each field is the length of its name, the name, the length of its value and
/// the value; lengths are variable-length integers. Order, duplicates and bytes are kept as they are (RFC 9110 §5). A
/// value type over one `ByteBuffer`; reading copies nothing.
///
/// Framing and hop-by-hop fields (RFC 9110 §7.6.1) are never part of a section: `Content-Length` is,
/// `Transfer-Encoding`, `Connection` and the fields it names are not. `Upgrade` is an exception and means that the
/// request asks for that upgrade.
package struct FieldSection: Equatable, Sendable {
    /// The encoded fields.
    package private(set) var bytes: ByteBuffer
    /// The number of fields.
    package private(set) var count: Int

    package init() {
        bytes = ByteBuffer()
        count = 0
    }

    package init(_ fields: KeyValuePairs<String, String>) {
        self.init()
        for (name, value) in fields { append(name: name, value: value) }
    }

    package var isEmpty: Bool { count == 0 }

    package mutating func reserveCapacity(_ bytes: Int) { self.bytes.reserveCapacity(bytes) }

    package mutating func append(name: String, value: String) {
        bytes.writeLengthPrefixed(name)
        bytes.writeLengthPrefixed(value)
        count += 1
    }

    package mutating func append(name: UnsafeRawBufferPointer, value: UnsafeRawBufferPointer) {
        bytes.writeVarInt(UInt64(name.count))
        bytes.writeBytes(name)
        bytes.writeVarInt(UInt64(value.count))
        bytes.writeBytes(value)
        count += 1
    }

    package mutating func append(_ field: Field) {
        bytes.writeVarInt(UInt64(field.nameBytes.readableBytes))
        bytes.writeImmutableBuffer(field.nameBytes)
        bytes.writeVarInt(UInt64(field.valueBytes.readableBytes))
        bytes.writeImmutableBuffer(field.valueBytes)
        count += 1
    }

    /// Returns the value of the first field of that name, in any ASCII case, or `nil` if there is none.
    package func first(_ name: String) -> String? {
        for field in self where field.isNamed(name) { return field.value }
        return nil
    }

    package func contains(_ name: String) -> Bool {
        for field in self where field.isNamed(name) { return true }
        return false
    }

    /// Returns the values of all fields of that name, in order.
    package func all(_ name: String) -> [String] {
        var values: [String] = []
        for field in self where field.isNamed(name) { values.append(field.value) }
        return values
    }

    /// Calls `body` with the bytes of each name and value. The pointers are valid inside the call only.
    package func forEachBytes(_ body: (_ name: UnsafeRawBufferPointer, _ value: UnsafeRawBufferPointer) -> Void) {
        bytes.withUnsafeReadableBytes { all in
            var cursor = FieldCursor(all)
            // The encoding was made by `append` or checked by `init(decoding:)`: every length is within the buffer.
            while let name = cursor.next(), let value = cursor.next() { body(name, value) }
        }
    }
}

extension FieldSection: Sequence {
    /// One field. Both parts are slices of the section's buffer.
    package struct Field: Sendable {
        package var nameBytes: ByteBuffer
        package var valueBytes: ByteBuffer

        package var name: String { String(buffer: nameBytes) }
        package var value: String { String(buffer: valueBytes) }

        /// Compares the name without regard to ASCII case.
        package func isNamed(_ other: String) -> Bool {
            nameBytes.withUnsafeReadableBytes { ASCII.equalIgnoringCase($0, other) }
        }
    }

    package struct Iterator: IteratorProtocol {
        fileprivate var rest: ByteBuffer

        package mutating func next() -> Field? {
            guard let name = rest.readLengthPrefixed(limit: .max), let value = rest.readLengthPrefixed(limit: .max)
            else { return nil }
            return Field(nameBytes: name, valueBytes: value)
        }
    }

    package func makeIterator() -> Iterator { Iterator(rest: bytes) }
    package var underestimatedCount: Int { count }
}

extension FieldSection {
    /// Checks and adopts an encoded section from the network: every length is within it, names are tokens, values have
    /// no control character but HTAB (RFC 9110 §5.5), and there are at most ``HopLimits/fields`` fields.
    ///
    /// - Throws: `violation`.
    package init(decoding encoded: ByteBuffer) throws(HopError) {
        var count = 0
        var problem: StaticString?
        encoded.withUnsafeReadableBytes { all in
            var cursor = FieldCursor(all)
            while cursor.remaining > 0 {
                guard let name = cursor.next(), let value = cursor.next() else {
                    problem = "a field ends outside its section"
                    return
                }
                count += 1
                if count > HopLimits.fields {
                    problem = "too many fields in a section"
                } else if !ASCII.isToken(name) {
                    problem = "a field name is not a token"
                } else if !ASCII.isFieldValue(value) {
                    problem = "a field value has control characters"
                }
                if problem != nil { return }
            }
        }
        if let problem { throw HopError(.violation, "\(problem)") }
        self.bytes = encoded
        self.count = count
    }

    /// Returns the Content-Length of a section from the network, or `nil` if there is none. Two of them, or a value
    /// that is not 1 to 19 digits of a number below 2^63, are a violation (RFC 9110 §8.6).
    package func contentLength() throws(HopError) -> Int? {
        var found: Int?
        var bad = false
        forEachBytes { name, value in
            guard name.count == 14, ASCII.equalIgnoringCase(name, "content-length") else { return }
            guard found == nil, let length = ASCII.decimal(value) else {
                bad = true
                return
            }
            found = length
        }
        if bad { throw HopError(.violation, "bad Content-Length") }
        return found
    }
}

/// A cursor over the encoded section that does not touch the buffer.
struct FieldCursor {
    private let all: UnsafeRawBufferPointer
    private var offset = 0

    init(_ all: UnsafeRawBufferPointer) { self.all = all }

    var remaining: Int { all.count - offset }

    /// Returns the next length-prefixed piece, or `nil` if it does not fit.
    mutating func next() -> UnsafeRawBufferPointer? {
        guard remaining > 0 else { return nil }
        let width = 1 << Int(all[offset] >> 6)
        guard remaining >= width else { return nil }
        var length = UInt64(all[offset] & 0x3F)
        for index in 1..<width { length = length << 8 | UInt64(all[offset + index]) }
        offset += width
        guard length <= UInt64(remaining) else { return nil }
        defer { offset += Int(length) }
        return UnsafeRawBufferPointer(rebasing: all[offset..<offset + Int(length)])
    }
}
