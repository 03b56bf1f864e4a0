import NIOCore
import TestSupport
import Tunnel

/// Returns the byte at an offset of a stream's body. No two streams have the same bytes, and no shift of a body looks
/// right.
func bodyByte(_ stream: UInt64, _ offset: Int) -> UInt8 {
    let mixed = (UInt64(offset) &+ 1) &* 0x9e37_79b9_7f4a_7c15 ^ (stream &* 0xff51_afd7_ed55_8ccd)
    return UInt8(truncatingIfNeeded: mixed >> 32)
}

func body(_ stream: UInt64, _ range: Range<Int>) -> ByteBuffer {
    var buffer = ByteBuffer()
    buffer.reserveCapacity(range.count)
    for offset in range { buffer.writeInteger(bodyByte(stream, offset)) }
    return buffer
}

/// Writes `size` bytes of a stream's body under back-pressure, then FIN.
final class BodySource {
    let tunnel: TunnelConnection
    let stream: StreamID
    let key: UInt64
    let size: Int
    private(set) var written = 0
    private(set) var isDone = false
    var isStopped = false

    init(_ tunnel: TunnelConnection, _ stream: StreamID, key: UInt64, size: Int) {
        self.tunnel = tunnel
        self.stream = stream
        self.key = key
        self.size = size
    }

    func pump() {
        guard !isDone, !isStopped else { return }
        while written < size, tunnel.unsentBytes(stream) <= 128 << 10 {
            let end = min(size, written + 16 << 10)
            tunnel.write(stream, body(key, written..<end))
            written = end
        }
        if written == size {
            isDone = true
            tunnel.finish(stream)
        }
    }
}

/// Checks a stream's body as it arrives.
final class BodySink {
    let key: UInt64
    private(set) var received = 0
    private(set) var isCorrect = true
    var isFinished = false
    var resetCode: ApplicationErrorCode?

    init(key: UInt64) { self.key = key }

    func receive(_ bytes: ByteBuffer) {
        for byte in bytes.readableBytesView {
            if byte != bodyByte(key, received) { isCorrect = false }
            received += 1
        }
    }
}
