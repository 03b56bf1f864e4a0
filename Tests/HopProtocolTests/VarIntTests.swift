import HopProtocol
import NIOCore
import Testing
import Tunnel

struct VarIntTests {
    @Test(
        "The examples of RFC 9000 appendix A.1 read and write",
        arguments: [
            (151_288_809_941_952_652, "c2197c5eff14e88c"), (494_878_333, "9d7f3e7d"), (15_293, "7bbd"), (37, "25"),
        ] as [(UInt64, String)]
    )
    func examples(value: UInt64, hex: String) {
        var buffer = ByteBuffer()
        buffer.writeVarInt(value)
        #expect(buffer.hex == hex)
        #expect(VarInt.length(value) == buffer.readableBytes)
        #expect(buffer.readVarInt() == value)
        #expect(buffer.readableBytes == 0)
    }

    @Test("Every boundary is encoded in the shortest form and decoded again")
    func boundaries() {
        for (value, length) in [
            (0, 1), (63, 1), (64, 2), (16_383, 2), (16_384, 4), (1_073_741_823, 4), (1_073_741_824, 8),
            (VarInt.max, 8),
        ] as [(UInt64, Int)] {
            var buffer = ByteBuffer()
            buffer.writeVarInt(value)
            #expect(buffer.readableBytes == length)
            #expect(buffer.readVarInt() == value)
        }
    }

    @Test("A longer form than needed is valid")
    func longForm() {
        var buffer = ByteBuffer(bytes: [0x40, 0x25])
        #expect(buffer.readVarInt() == 37)
    }

    @Test("A truncated variable-length integer moves nothing")
    func cut() {
        for first: UInt8 in [0x40, 0x80, 0xC0] {
            for count in 0..<((1 << Int(first >> 6)) - 1) {
                var buffer = ByteBuffer(bytes: [first] + Array(repeating: 0, count: count))
                #expect(buffer.readVarInt() == nil)
                #expect(buffer.readableBytes == count + 1)
            }
        }
        var empty = ByteBuffer()
        #expect(empty.readVarInt() == nil)
    }
}
