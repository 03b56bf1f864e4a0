/// A whole response.
package struct OutboundResponse: Sendable {
    /// 200 to 999: interim responses are not shown.
    package var status: Int
    package var fields: OutboundFields
    package var body: [UInt8]
    /// Where it came from: the request's URL, or the last redirect's.
    package var url: String
    /// When its head was received, by this machine's clock: milliseconds since 1970. Beside the `Date` field it shows
    /// how far the clocks are apart.
    package var receivedAt: Int64
}

/// The fields of a response, in the order of their arrival; trailers are not among them.
package struct OutboundFields: Sendable {
    package private(set) var all: [(name: String, value: String)] = []

    package init() {}

    mutating func append(_ name: String, _ value: String) {
        all.append((name, value))
    }

    /// The first field of that name, which is compared without regard to case.
    package subscript(name: String) -> String? {
        all.first { Self.isSame($0.name, name) }?.value
    }

    /// Every field of that name.
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
