import DTLS
import NIOCore
import NIOPosix
import Synchronization
import TestSupport
import Testing
import Transport
import Tunnel

@Suite("Sessions and streams over real sockets", .serialized)
struct SessionTests {
    @Test("A stream is echoed, between two loops and on one", arguments: [1, 2])
    func echo(loops: Int) async throws {
        let fixture = try await Fixture(loops: loops)
        let (session, _) = try await fixture.connect()
        let (_, log) = try await fixture.stream(session, on: session.loop, .send(100_000))
        let result = try await log.wait("the echo") { $0.isOver }
        var expected = Checksum()
        StreamRecorder.payload(at: 0, count: 100_000).withUnsafeReadableBytes { expected.add($0) }
        #expect(result.bytes == 100_000 && result.checksum == expected && result.finished == 1)
        #expect(result.failures.isEmpty)
        try await fixture.close()
    }

    @Test("A stream used on another loop than its session's is echoed")
    func crossLoopEcho() async throws {
        let fixture = try await Fixture(loops: 2)
        let (session, accepted) = try await fixture.connect(on: fixture.loops[1])
        let (_, log) = try await fixture.stream(session, on: fixture.loops[0], .send(3_000_000))
        let (_, back) = try await fixture.stream(accepted, on: fixture.loops[1], .send(3_000_000))
        var expected = Checksum()
        StreamRecorder.payload(at: 0, count: 3_000_000).withUnsafeReadableBytes { expected.add($0) }
        for log in [log, back] {
            let result = try await log.wait("the echo") { $0.isOver }
            #expect(result.bytes == 3_000_000 && result.checksum == expected && result.finished == 1)
            #expect(result.writable > 0, "3 MB are more than may be unsent")
        }
        try await fixture.close()
    }

    @Test("50 MB are echoed with the same checksum", arguments: [1, 2])
    func bulk(loops: Int) async throws {
        let total = 50 << 20
        let fixture = try await Fixture(loops: loops)
        let (session, _) = try await fixture.connect()
        let (_, log) = try await fixture.stream(session, on: fixture.loops[0], .send(total))
        let result = try await log.wait("50 MB", within: .seconds(120)) { $0.isOver }
        var expected = Checksum()
        StreamRecorder.payload(at: 0, count: total).withUnsafeReadableBytes { expected.add($0) }
        #expect(result.bytes == total && result.checksum == expected && result.finished == 1)
        let counters = fixture.listener.counters[0]
        #expect(counters.burstsOut.current * 4 < counters.datagramsOut.current, "bursts leave in one call")
        #expect(counters.readsIn.current * 4 < counters.datagramsIn.current, "and are read in one")
        try await fixture.close()
    }
}
