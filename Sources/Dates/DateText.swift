/// The fields of a date text of fixed places.
struct DateText {
    private let bytes: [UInt8]

    init(_ text: some StringProtocol) {
        bytes = Array(text.utf8)
    }

    var count: Int { bytes.count }

    subscript(position: Int) -> UInt8? {
        position < bytes.count ? bytes[position] : nil
    }

    /// Nil unless there are exactly digits.
    func number(_ place: Range<Int>) -> Int? {
        guard place.upperBound <= bytes.count else { return nil }
        var number = 0
        for byte in bytes[place] {
            guard (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(byte) else { return nil }
            number = number * 10 + Int(byte - UInt8(ascii: "0"))
        }
        return number
    }

    func text(_ place: Range<Int>) -> String? {
        place.upperBound <= bytes.count ? String(decoding: bytes[place], as: UTF8.self) : nil
    }

    static func two(_ number: Int) -> String { number < 10 ? "0\(number)" : "\(number)" }

    static func four(_ number: Int) -> String {
        let digits = "\(number)"
        return String(repeating: "0", count: max(0, 4 - digits.utf8.count)) + digits
    }
}
