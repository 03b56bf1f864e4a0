import Foundation
import Glibc
import NIOCore
import Store
import TestSupport
import Testing

@Suite("Many values")
struct BulkTests {
    @Test("Ten thousand values are read at once; one that cannot be read is reported and delays nothing")
    func tenThousand() async throws {
        let scratch = ScratchFolder()
        let volume = try scratch.volume()
        // The same files as the store would write, without five fsyncs each.
        for number in 0..<10_000 {
            try volume.files.makeFolder("agents/k\(number)")
            let path = scratch.file("v2/agents/k\(number)/1.json")
            let content = bytes(#"{"number":\#(number),"text":"\#(String(repeating: "x", count: 400))"}"#)
            let made = FileManager.default.createFile(
                atPath: path,
                contents: Data(storedFile(content)),
                attributes: [.posixPermissions: number == 77 ? 0o644 : 0o600]
            )
            try #require(made)
        }
        let store = VolumeStore(volume: volume)
        defer { store.close() }
        var fastest = TimeAmount.hours(1)
        var cheapest = Int.max
        for _ in 0..<5 {
            let (began, used) = (NIODeadline.now(), processorMicroseconds())
            let all = try await store.readAll("agents")
            fastest = min(fastest, NIODeadline.now() - began)
            cheapest = min(cheapest, processorMicroseconds() - used)
            let bad = all.compactMap { reading -> (StoreKey, StoreError.Code)? in
                if case .failure(let error) = reading.value { (reading.key, error.code) } else { nil }
            }
            #expect(all.count == 10_000 && bad.map(\.0) == ["agents/k77"] && bad.map(\.1) == [.refused])
        }
        print("NOTE 10,000 values read in \(fastest.nanoseconds / 1_000) us, \(cheapest) us of CPU time")
    }
}

/// Returns the user and system time of this process.
private func processorMicroseconds() -> Int {
    var usage = rusage()
    getrusage(__rusage_who_t(RUSAGE_SELF.rawValue), &usage)
    let seconds = usage.ru_utime.tv_sec + usage.ru_stime.tv_sec
    return seconds * 1_000_000 + Int(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec)
}
