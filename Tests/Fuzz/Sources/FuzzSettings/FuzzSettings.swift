import FuzzDriver
import Settings

/// The entry point. The first byte selects the check that gets the rest.
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

/// A text with repetitions, to reach limits far above the size of an input. The input is a sequence of repeat count,
/// length and bytes.
private func nested(_ script: inout Script) -> [UInt8] {
    var result: [UInt8] = []
    while !script.isAtEnd {
        let times = Int(script.byte()) + 1
        let text = script.bytes(Int(script.byte()))
        for _ in 0..<times { result += text }
    }
    return result
}
