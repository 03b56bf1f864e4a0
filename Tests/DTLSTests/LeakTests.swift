import COpenSSL
import DTLS
import Foundation
import NIOCore
import TestSupport
import Testing

/// Tests in separate processes: the counters must be installed before anything else uses OpenSSL.
@Suite("Memory")
struct LeakTests {
    @Test("Thousands of sessions, served, refused, abandoned or under attack, leak no memory")
    func leaks() async {
        let result = await #expect(
            processExitsWith: .success,
            observing: [\.standardOutputContent]
        ) { () async throws -> Void in
            precondition(hop_memory_start_counting())
            let server = try DTLSContext.testServer()
            let client = try DTLSContext.testClient()
            let distrustful = try DTLSContext.testClient(trust: .caPEM(TestAuthority.stranger.pem))
            func round(_ count: Int) throws {
                let secret = DTLSCookieSecret()
                for index in 0..<count {
                    let pair = try Pair(server: server, client: index % 4 == 1 ? distrustful : client, secret: secret)
                    if index % 4 == 2 {
                        // Abandoned at every stage of the handshake.
                        for _ in 0..<index % 3 {
                            for datagram in pair.client.transmitAll() { pair.deliverToServer(datagram) }
                            for datagram in pair.listener.transmitAll() { pair.client.handle(datagram, now: start) }
                        }
                        continue
                    }
                    pair.settle()
                    guard index % 4 != 1 else { continue }
                    guard try pair.exchange() else { exit(2) }
                    for length in 0..<20 {
                        pair.client.handle([UInt8](repeating: 22, count: length), now: start)
                    }
                    pair.client.releaseIdleBuffers()
                    if index % 8 == 0 { pair.client.close() }
                    pair.settle()
                }
            }
            try round(200)
            let before = hop_memory_count()
            try round(4_000)
            let after = hop_memory_count()
            print("live blocks \(before.live_blocks) → \(after.live_blocks)", terminator: ", ")
            print("live bytes \(before.live_bytes) → \(after.live_bytes)")
            // Caches that grow once are a few blocks. One block lost per session would be thousands.
            exit(after.live_blocks <= before.live_blocks + 16 ? EXIT_SUCCESS : EXIT_FAILURE)
        }
        print(String(decoding: result?.standardOutputContent ?? [], as: UTF8.self))
    }

    @Test("Records allocate nothing, and an idle session holds less than 45 KB")
    func allocations() async {
        let result = await #expect(
            processExitsWith: .success,
            observing: [\.standardOutputContent]
        ) { () async throws -> Void in
            precondition(hop_memory_start_counting())
            let context = try DTLSContext.testServer()
            let client = try DTLSContext.testClient()
            let pair = try Pair(server: context, client: client).settle()
            let server = pair.server!
            let plaintext = [UInt8](repeating: 3, count: 1163)
            var datagram = [UInt8](repeating: 0, count: 1200)
            var out = [UInt8](repeating: 0, count: DTLSSession.maxPlaintext)
            func one() throws {
                let count = try plaintext.withUnsafeBytes { plain in
                    try datagram.withUnsafeMutableBytes { try pair.client.seal(plain, into: $0) }
                }
                datagram.withUnsafeBytes { server.handle(datagram: .init(rebasing: $0[..<count]), now: start) }
                let reads = (0..<2).map { _ in out.withUnsafeMutableBytes { server.read(into: $0) } }
                guard reads == [1163, nil] else { exit(2) }
                guard out.withUnsafeMutableBytes({ server.pollTransmit(into: $0) }) == nil else { exit(3) }
            }
            for _ in 0..<10 { try one() }
            let before = hop_memory_count()
            let clock = ContinuousClock.now
            for _ in 0..<100_000 { try one() }
            let spent = ContinuousClock.now - clock
            let after = hop_memory_count()
            print("a record of 1,163 B sealed and opened: \(spent / 100_000)", terminator: ", ")
            print("allocations \(after.allocations - before.allocations)")
            guard after.allocations == before.allocations else { exit(4) }

            let alone = hop_memory_count().live_bytes
            let more = try (0..<50).map { _ in try Pair(server: context, client: client).settle() }
            let busy = (hop_memory_count().live_bytes - alone) / (2 * more.count)
            for pair in more {
                pair.server!.releaseIdleBuffers()
                pair.client.releaseIdleBuffers()
            }
            let idle = (hop_memory_count().live_bytes - alone) / (2 * more.count)
            print("a session holds \(busy) B, idle \(idle) B (half of client and server with a listener's spare)")
            exit(idle < 45_000 ? EXIT_SUCCESS : 5)
        }
        print(String(decoding: result?.standardOutputContent ?? [], as: UTF8.self))
    }
}
