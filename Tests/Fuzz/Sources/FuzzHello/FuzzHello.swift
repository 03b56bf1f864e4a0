import EdgeHello
import FuzzDriver

/// The entry point of the fuzz target. The first byte of an input selects the kind of the rest, the second one its
/// split.
@_cdecl("FuzzHello_main")
public func fuzzHelloMain(_ argc: CInt, _ argv: UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>?) -> CInt {
    fuzz(argc, argv) { start, count in
        var script = Script(start, count)
        let kind = script.byte()
        let seed = script.byte()
        switch kind & 3 {
        case 0: check(script.rest(), seed)
        case 1: check(inRecords(script.rest(), size: Int(seed) + 1), seed)
        case 2: check(inRecords(message(&script), size: Int(seed) * 64 + 1), seed)
        default: check(records(&script), seed)
        }
        return 0
    }
}

/// Checks that the verdict does not depend on how the bytes arrive, and that it is that of ``PlainReading``.
private func check(_ bytes: [UInt8], _ seed: UInt8) {
    let expected = PlainReading.verdict(bytes)
    for split in Splits.all(of: bytes.count, seed: seed) {
        var peek = ClientHelloPeek()
        var verdict = ClientHelloPeek.Verdict.needsMore
        for piece in split {
            let next = bytes.withUnsafeBytes {
                peek.inspect(UnsafeRawBufferPointer(rebasing: $0[..<piece.upperBound]))
            }
            precondition(verdict == .needsMore || next == verdict, "a verdict changed")
            verdict = next
        }
        precondition(verdict == expected, "\(verdict) in place of \(expected)")
    }
}

private func big(_ value: Int) -> [UInt8] { [UInt8(value >> 8 & 0xFF), UInt8(value & 0xFF)] }
private func vector16(_ bytes: [UInt8]) -> [UInt8] { big(bytes.count) + bytes }
private func record(_ type: UInt8, _ payload: [UInt8]) -> [UInt8] { [type, 3, 1] + vector16(payload) }

private func inRecords(_ message: [UInt8], size: Int) -> [UInt8] {
    stride(from: 0, to: message.count, by: size).flatMap {
        record(22, Array(message[$0..<min(message.count, $0 + size)]))
    }
}

/// Records with right lengths: a type, a length, a payload.
private func records(_ script: inout Script) -> [UInt8] {
    var result: [UInt8] = []
    while !script.isAtEnd {
        let type = script.byte()
        let length = Int(script.byte()) << 8 | Int(script.byte())
        result += record(type & 0x80 == 0 ? 22 : type, script.bytes(length))
    }
    return result
}

/// Builds a hello with right lengths except where the script changes them, so that a change does not lose everything
/// after it.
private func message(_ script: inout Script) -> [UInt8] {
    let shape = script.byte()
    let session = script.bytes(Int(script.byte() & 63))
    var list: [UInt8] = []
    while !script.isAtEnd, list.count < 20_000 {
        let kind = script.byte()
        let data = script.bytes(Int(script.byte()))
        switch kind & 7 {
        case 0: list += big(0) + vector16(vector16([kind >> 7] + vector16(data)))
        case 1: list += big(0) + vector16(data)
        case 2: list += big(16) + vector16(vector16([UInt8(data.count)] + data))
        case 3: list += big(16) + vector16(vector16([10] + Array("acme-tls/1".utf8) + (kind >> 7 == 0 ? [] : data)))
        case 4: list += big(16) + vector16(data)
        // Far above an input's size.
        case 5: for count in 0..<Int(kind >> 3) { list += big(0x1000 + count) + vector16(data) }
        default: list += big(Int(kind) << 8) + vector16(data)
        }
    }
    list = Array(list.prefix(0xFFFF))
    let suites = shape & 1 == 0 ? [0x13, 0x01] : Array(session.prefix(3))
    var body: [UInt8] = [3, 3] + [UInt8](repeating: 9, count: 32)
    body += [UInt8(session.count)] + session + vector16(suites) + (shape & 2 == 0 ? [1, 0] : [0])
    if shape & 4 == 0 || !list.isEmpty { body += vector16(list) }
    if shape & 8 != 0 { body.append(shape) }
    return [1, UInt8(body.count >> 16), UInt8(body.count >> 8 & 0xFF), UInt8(body.count & 0xFF)] + body
}
