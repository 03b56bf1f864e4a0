import Gateway
import NIOCore
import Testing

@Suite("The part of a request's body kept for another attempt")
struct ReplayBufferTests {
    @Test("A piece of a large buffer does not keep that buffer")
    func copies() {
        var replay = ReplayBuffer(limit: 64 * 1024)
        let large = ByteBuffer(repeating: 7, count: 32 * 1024)
        for index in 0..<10 { replay.append(large.getSlice(at: index, length: 1)!) }
        #expect(replay.bytes == ByteBuffer(repeating: 7, count: 10))
        #expect(replay.bytes.storageCapacity < 1024)
        #expect(replay.isComplete)
    }

    @Test("Above the limit nothing is kept, and nothing afterwards")
    func limit() {
        var replay = ReplayBuffer(limit: 8)
        replay.append(ByteBuffer(string: "1234"))
        replay.append(ByteBuffer(string: "5678"))
        #expect(replay.bytes == ByteBuffer(string: "12345678"))
        #expect(replay.isComplete)
        replay.append(ByteBuffer(string: "9"))
        #expect(!replay.isComplete)
        #expect(replay.bytes.readableBytes == 0)
        replay.append(ByteBuffer(string: "x"))
        #expect(replay.bytes.readableBytes == 0)
    }
}
