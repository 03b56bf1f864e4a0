import FuzzDriver
import Settings

/// The first byte says what the rest is.
@_cdecl("FuzzSettings_main")
public func fuzzSettingsMain(_ argc: CInt, _ argv: UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>?) -> CInt {
    fuzz(argc, argv) { start, count in
        var script = Script(start, count)
        switch script.byte() & 3 {
        case 0: checkYAML(script.rest())
        case 1: checkYAML(nested(&script))
        case 2: checkReader(&script)
        default: checkScalars(script.rest())
        }
        return 0
    }
}

/// Texts that stand more than once, for the bounds, which are far above an input's size. A text is how often, then its
/// length, then its bytes.
private func nested(_ script: inout Script) -> [UInt8] {
    var result: [UInt8] = []
    while !script.isAtEnd {
        let times = Int(script.byte()) + 1
        let text = script.bytes(Int(script.byte()))
        for _ in 0..<times { result += text }
    }
    return result
}
