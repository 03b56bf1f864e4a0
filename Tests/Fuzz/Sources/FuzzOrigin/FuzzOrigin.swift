import FuzzDriver
import HopProtocol
import NIOCore

/// Runs the target. The first byte of an input selects the check, the second one the split of the rest.
@_cdecl("FuzzOrigin_main")
public func fuzzOriginMain(_ argc: CInt, _ argv: UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>?) -> CInt {
    fuzz(argc, argv) { start, count in
        var script = Script(start, count)
        let kind = script.byte()
        let seed = script.byte()
        let method = kind & 4 != 0 ? "HEAD" : "GET"
        switch kind & 3 {
        case 0:
            check(
                [FuzzedExchange(method: method, response: ByteBuffer(bytes: script.rest()))],
                eof: kind & 8 != 0,
                seed
            )
        case 1: check([FuzzedExchange(method: method, response: repetitions(&script))], eof: kind & 8 != 0, seed)
        case 2: check(exchanges(&script), eof: kind & 8 != 0, seed)
        default: checkRequest(script.rest(), kind >> 2)
        }
        return 0
    }
}

/// A request that was sent, and the bytes that the origin sends until the next one.
struct FuzzedExchange {
    var method: String
    var response: ByteBuffer
}

/// Reads several responses of one connection, each preceded by its method and its length.
private func exchanges(_ script: inout Script) -> [FuzzedExchange] {
    var result: [FuzzedExchange] = []
    while !script.isAtEnd {
        let method = script.byte() & 1 == 0 ? "GET" : "HEAD"
        let length = Int(script.byte()) << 8 | Int(script.byte())
        result.append(FuzzedExchange(method: method, response: ByteBuffer(bytes: script.bytes(length))))
    }
    return result
}

/// Reads a response of repeated lines, to reach limits that are far above the size of an input. A line is encoded as
/// its number of repetitions, its length and its bytes.
private func repetitions(_ script: inout Script) -> ByteBuffer {
    var result = ByteBuffer()
    while !script.isAtEnd {
        let times = Int(script.byte()) + 1
        let line = script.bytes(Int(script.byte()))
        for _ in 0..<times { result.writeBytes(line) }
    }
    return result
}
