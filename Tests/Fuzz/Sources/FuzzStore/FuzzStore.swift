import FuzzDriver
import Store

/// The entry point of the fuzz target. The first byte of an input selects the kind of the rest.
@_cdecl("FuzzStore_main")
public func fuzzStoreMain(_ argc: CInt, _ argv: UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>?) -> CInt {
    fuzz(argc, argv) { start, count in
        var script = Script(start, count)
        switch script.byte() & 15 {
        case 0: checkJSON(script.rest())
        case 1: checkSealed(script.rest())
        case 2: checkBody(script.rest())
        case 3: checkHeartbeat(script.rest())
        case 4: checkSnapshot(script.rest())
        case 5: checkLog(script.rest())
        case 6: checkLease(script.rest())
        case 7: checkRow(script.rest())
        case 8: checkVersion(script.rest())
        default: checkKeys(script.rest())
        }
        return 0
    }
}
