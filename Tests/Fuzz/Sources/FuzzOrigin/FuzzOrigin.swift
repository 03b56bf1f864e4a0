import FuzzDriver
import HopProtocol
import NIOCore

/// The first byte says what the rest is, the second one how it is cut.
@_cdecl("FuzzOrigin_main")
public func fuzzOriginMain(_ argc: CInt, _ argv: UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>?) -> CInt {
    fuzz(argc, argv) { start, count in
        var script = Script(start, count)
        let kind = script.byte()
        let seed = script.byte()
        let method = kind & 4 != 0 ? "HEAD" : "GET"
        switch kind & 3 {
        case 0: check([Exchange(method: method, answer: ByteBuffer(bytes: script.rest()))], eof: kind & 8 != 0, seed)
        case 1: check([Exchange(method: method, answer: repetitions(&script))], eof: kind & 8 != 0, seed)
        case 2: check(exchanges(&script), eof: kind & 8 != 0, seed)
        default: checkRequest(script.rest(), kind >> 2)
        }
        return 0
    }
}

/// A request that was sent, and all that the origin says until the next one is.
struct Exchange {
    var method: String
    var answer: ByteBuffer
}

/// Several answers on one connection, each with the method and its length before it.
private func exchanges(_ script: inout Script) -> [Exchange] {
    var result: [Exchange] = []
    while !script.isAtEnd {
        let method = script.byte() & 1 == 0 ? "GET" : "HEAD"
        let length = Int(script.byte()) << 8 | Int(script.byte())
        result.append(Exchange(method: method, answer: ByteBuffer(bytes: script.bytes(length))))
    }
    return result
}

/// Lines that stand more than once in the answer, for the bounds, which are far above an input's size. A line is how
/// often, then its length, then its bytes.
private func repetitions(_ script: inout Script) -> ByteBuffer {
    var result = ByteBuffer()
    while !script.isAtEnd {
        let times = Int(script.byte()) + 1
        let line = script.bytes(Int(script.byte()))
        for _ in 0..<times { result.writeBytes(line) }
    }
    return result
}
