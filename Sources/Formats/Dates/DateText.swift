/// Access to the fields of a date format whose fields have fixed positions.
struct DateText {
    private let bytes: [UInt8]

    init(_ text: some StringProtocol) {
        bytes = Array(text.utf8)
    }

    var count: Int { bytes.count }

    subscript(position: Int) -> UInt8? {
        position < bytes.count ? bytes[position] : nil
    }

    /// The number in a range of bytes, or `nil` if the text is shorter or has anything but digits there.
    func number(_ range: Range<Int>) -> Int? {
        guard range.upperBound <= bytes.count else { return nil }
        var number = 0
        for byte in bytes[range] {
            guard (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(byte) else { return nil }
            number = number * 10 + Int(byte - UInt8(ascii: "0"))
        }
        return number
    }

    /// The text in a range of bytes, or `nil` if the text is shorter.
    func text(_ range: Range<Int>) -> String? {
        range.upperBound <= bytes.count ? String(decoding: bytes[range], as: UTF8.self) : nil
    }

    /// The number with at least two digits.
    static func two(_ number: Int) -> String { number < 10 ? "0\(number)" : "\(number)" }

    /// The number with at least four digits.
    static func four(_ number: Int) -> String {
        let digits = "\(number)"
        return String(repeating: "0", count: max(0, 4 - digits.utf8.count)) + digits
    }
}
