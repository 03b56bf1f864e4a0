import Gateway
import Glibc
import Settings
import Testing
import Transport

@Suite("The start of a listener")
struct ListenerStartTests {
    /// Starts a listener on a machine where nothing can listen on `::`, and returns where it listens.
    private func start(_ host: String, errno: CInt, log: TestLog) async throws -> String {
        let start = ListenerStart("x_listen", isUDP: true, log.logger)
        return try await start.run(ListenAddress(host: host, port: 5)) { address in
            if address.host.contains(":") {
                throw TransportError(code: .systemCall, operation: "socket", errno: errno)
            }
            return address.description
        }
    }

    @Test(
        "[::] becomes 0.0.0.0 where the kernel has no IPv6, with a log line",
        arguments: [EAFNOSUPPORT, EADDRNOTAVAIL]
    )
    func noIPv6(errno: CInt) async throws {
        let log = try TestLog()
        #expect(try await start("::", errno: errno, log: log) == "0.0.0.0:5")
        let lines = try log.lines
        #expect(lines.count == 1 && lines[0].contains("no IPv6") && lines[0].contains("x_listen"))
    }

    @Test("Any other failure is an error with the setting, also that of an IPv6 address")
    func failure() async throws {
        let log = try TestLog()
        await #expect(throws: GatewayStartError.self) { try await start("::", errno: EADDRINUSE, log: log) }
        await #expect(throws: GatewayStartError.self) { try await start("::1", errno: EAFNOSUPPORT, log: log) }
        #expect(try log.lines.isEmpty)
    }
}
