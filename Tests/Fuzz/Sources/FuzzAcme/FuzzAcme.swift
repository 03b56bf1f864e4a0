import FuzzDriver

/// The entry point of the fuzz target. The first byte of an input selects the kind of the rest.
@_cdecl("FuzzAcme_main")
public func fuzzAcmeMain(_ argc: CInt, _ argv: UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>?) -> CInt {
    fuzz(argc, argv) { start, count in
        var script = Script(start, count)
        switch script.byte() & 7 {
        case 0: checkDocuments(script.rest())
        case 1: checkRecords(script.rest())
        case 2: checkTexts(script.rest())
        case 4: checkCertificate(script.rest())
        default: checkOrder(&script)
        }
        return 0
    }
}
