import FuzzDriver
import HopProtocol
import NIOCore

/// The first byte selects the meaning of the rest, the second one how it is split.
@_cdecl("FuzzHop_main")
public func fuzzHopMain(_ argc: CInt, _ argv: UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>?) -> CInt {
    fuzz(argc, argv) { start, count in
        var script = Script(start, count)
        let kind = script.byte()
        let seed = script.byte()
        let isRaw = kind & 4 != 0
        switch kind & 3 {
        case 0:
            let bytes = isRaw ? ByteBuffer(bytes: script.rest()) : frames(&script)
            check(bytes, seed) { RequestStream(isUpgraded: kind & 8 != 0) }
        case 1:
            let bytes = isRaw ? ByteBuffer(bytes: script.rest()) : frames(&script)
            check(bytes, seed) { ResponseStream(method: kind & 8 != 0 ? "HEAD" : "GET") }
        case 3:
            checkJoin(script.rest(), isJSON: !isRaw)
        default:
            checkControl(isRaw ? ByteBuffer(bytes: script.rest()) : messages(&script), seed)
        }
        return 0
    }
}

/// Builds frames with right lengths, so that a change of the payload does not lose everything after it. A frame is its
/// type, the number of times its payload is repeated (for the limits, which are far above an input's size), its length
/// and its payload.
private func frames(_ script: inout Script) -> ByteBuffer {
    var result = ByteBuffer()
    while !script.isAtEnd {
        let type = script.byte()
        let times = type & 0x80 == 0 ? 1 : Int(script.byte()) + 1
        let length = Int(script.byte()) << 8 | Int(script.byte())
        let payload = script.bytes(length)
        result.writeVarInt(UInt64(type & 7))
        result.writeVarInt(UInt64(payload.count * times))
        for _ in 0..<times { result.writeBytes(payload) }
    }
    return result
}

/// Builds control messages, one for each line.
private func messages(_ script: inout Script) -> ByteBuffer {
    var result = ByteBuffer()
    while !script.isAtEnd {
        let line = script.bytes(until: UInt8(ascii: "\n"))
        result.writeInteger(UInt32(line.count))
        result.writeBytes(line)
    }
    return result
}
