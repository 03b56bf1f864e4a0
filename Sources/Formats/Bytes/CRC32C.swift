/// The Castagnoli checksum (RFC 3720 appendix B.4), computed eight bytes at a time.
///
/// It detects accidental damage. It does not detect forgery.
package enum CRC32C {
    package static func checksum(_ bytes: [UInt8]) -> UInt32 {
        var state = State()
        bytes.withUnsafeBytes { state.update($0) }
        return state.value
    }

    /// A checksum of bytes that arrive in pieces.
    package struct State: Sendable {
        private var register: UInt32 = .max

        package init() {}

        /// The checksum of all bytes so far.
        package var value: UInt32 { ~register }

        package mutating func update(_ bytes: UnsafeRawBufferPointer) {
            register = CRC32C.tables.withUnsafeBufferPointer { tables in
                var crc = register
                var position = 0
                while position &+ 8 <= bytes.count {
                    let word = bytes.loadUnaligned(fromByteOffset: position, as: UInt64.self).littleEndian
                    let mixed = word ^ UInt64(crc)
                    crc = tables[1_792 &+ Int(mixed & 0xff)]
                    crc ^= tables[1_536 &+ Int(mixed >> 8 & 0xff)]
                    crc ^= tables[1_280 &+ Int(mixed >> 16 & 0xff)]
                    crc ^= tables[1_024 &+ Int(mixed >> 24 & 0xff)]
                    crc ^= tables[768 &+ Int(mixed >> 32 & 0xff)]
                    crc ^= tables[512 &+ Int(mixed >> 40 & 0xff)]
                    crc ^= tables[256 &+ Int(mixed >> 48 & 0xff)]
                    crc ^= tables[Int(mixed >> 56)]
                    position &+= 8
                }
                while position < bytes.count {
                    crc = tables[Int((crc ^ UInt32(bytes[position])) & 0xff)] ^ crc >> 8
                    position &+= 1
                }
                return crc
            }
        }

        /// Adds the eight bytes of a number, in little-endian order.
        package mutating func update(_ number: UInt64) {
            withUnsafeBytes(of: number.littleEndian) { update($0) }
        }
    }

    /// Eight tables of 256 entries: table k holds the effect of a byte that is k bytes before the end of an eight-byte
    /// step ("slicing by 8").
    private static let tables: [UInt32] = {
        var tables = [UInt32](repeating: 0, count: 2_048)
        for index in 0..<256 {
            var crc = UInt32(index)
            for _ in 0..<8 { crc = crc & 1 == 1 ? crc >> 1 ^ 0x82f6_3b78 : crc >> 1 }
            tables[index] = crc
        }
        for index in 256..<2_048 {
            let before = tables[index - 256]
            tables[index] = tables[Int(before & 0xff)] ^ before >> 8
        }
        return tables
    }()
}
