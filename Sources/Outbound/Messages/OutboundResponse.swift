/// A complete response.
package struct OutboundResponse: Sendable {
    /// The final status, 200 to 999. Interim responses are dropped.
    package var status: Int
    package var fields: OutboundFields
    package var body: [UInt8]
    /// The URL that responded: the request's, or that of the last redirect.
    package var url: String
    /// The time at which the head was received by this machine's clock, in milliseconds since 1970. Compared with the
    /// `Date` field it shows the difference between the clocks.
    package var receivedAt: Int64
}

/// The fields of a response's final head, in the order of their arrival. Trailers are not included.
package struct OutboundFields: Sendable {
    package private(set) var all: [(name: String, value: String)] = []

    package init() {}

    mutating func append(_ name: String, _ value: String) {
        all.append((name, value))
    }

    /// The value of the first field with this name, compared case-insensitively, or `nil` if there is none.
    package subscript(name: String) -> String? {
        all.first { Self.isSame($0.name, name) }?.value
    }

    /// The values of all fields with this name.
    package func values(_ name: String) -> [String] {
        all.filter { Self.isSame($0.name, name) }.map(\.value)
    }

    private static func isSame(_ one: String, _ other: String) -> Bool {
        one.utf8.count == other.utf8.count && zip(one.utf8, other.utf8).allSatisfy { lowercased($0) == lowercased($1) }
    }

    static func lowercased(_ byte: UInt8) -> UInt8 {
        (UInt8(ascii: "A")...UInt8(ascii: "Z")).contains(byte) ? byte | 0x20 : byte
    }
}
