import HopProtocol
import NIOCore
import Testing

@Suite("The first frame between two replicas")
struct HopTests {
    private let hop = HopHead(replica: 7 << 100 | 3, session: 300)

    private var encoded: ByteBuffer {
        var bytes = ByteBuffer()
        MessageEncoder.writeHop(hop, into: &bytes)
        return bytes
    }

    @Test("It is read whole, in pieces and with what follows")
    func read() throws {
        #expect(encoded.readableBytes == 20)
        let followed = Array(encoded.readableBytesView) + [1, 2, 3]
        for size in 1...followed.count {
            var reader = HopReader()
            var rest = followed[...]
            var found: HopHead?
            var behind: [UInt8] = []
            while !rest.isEmpty {
                var piece = ByteBuffer(bytes: rest.prefix(size))
                rest = rest.dropFirst(size)
                if found == nil {
                    found = try reader.read(&piece)
                    if found == nil { continue }
                }
                behind += Array(piece.readableBytesView)
            }
            #expect(found == hop && behind == [1, 2, 3], "in pieces of \(size)")
        }
    }

    @Test("Fields of a later version are ignored")
    func later() throws {
        var bytes = ByteBuffer(bytes: [5, 22])
        bytes.writeBytes(encoded.readableBytesView.dropFirst(2))
        bytes.writeBytes([9, 9, 9, 9])
        var reader = HopReader()
        #expect(try reader.read(&bytes) == hop && bytes.readableBytes == 0)
    }

    @Test("Anything else is a violation, and nothing without bound is kept")
    func refused() {
        for bytes: [UInt8] in [
            [1, 0], [2, 5], [5, 3, 1, 2, 3], [5, 0], [5, 0x40, 65], [5, 0x80, 0xff, 0xff, 0xff],
        ] {
            var reader = HopReader()
            var buffer = ByteBuffer(bytes: bytes)
            #expect(throws: HopError.self) { try reader.read(&buffer) }
        }
    }
}
