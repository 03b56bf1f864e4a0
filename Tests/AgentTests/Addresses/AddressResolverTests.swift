import Agent
import Dispatch
import NIOCore
import NIOPosix
import Settings
import TestSupport
import Testing

struct AddressResolverTests {
    @Test("Lookups whose callers have given up are not made, and delay none after them")
    func outage() async throws {
        let pool = NIOThreadPool(numberOfThreads: 1)
        pool.start()
        let answer = DispatchSemaphore(value: 0)
        let lookups = Observed<[String]>([])
        let address = try SocketAddress(ipAddress: "192.0.2.1", port: 80)
        func lookup(_ host: String, in timeout: TimeAmount) -> EventLoopFuture<[SocketAddress]> {
            AddressResolver.lookup(
                of: HostPort(host: host, port: 80),
                on: MultiThreadedEventLoopGroup.singleton.next(),
                in: timeout,
                pool: pool
            ) { target in
                lookups.update { $0.append(target.host) }
                if target.host == "hanging.test" { answer.wait() }
                return [address]
            }
        }
        let hanging = lookup("hanging.test", in: .milliseconds(100))
        let late = (0..<100).map { lookup("late\($0).test", in: .milliseconds(100)) }
        for future in [hanging] + late { await #expect(throws: (any Error).self) { try await future.get() } }
        answer.signal()
        #expect(try await lookup("next.test", in: .seconds(30)).get() == [address])
        #expect(lookups.value == ["hanging.test", "next.test"])
        try await pool.shutdownGracefully()
    }
}
