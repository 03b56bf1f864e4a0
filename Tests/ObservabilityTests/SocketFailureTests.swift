import Glibc
import NIOCore
import Observability
import Testing

@Suite("Socket failures")
struct SocketFailureTests {
    @Test("A description is the system's reason, and names no function of a library")
    func descriptions() throws {
        let refused = IOError(errnoCode: ECONNREFUSED, reason: "connection reset (error set)")
        #expect(SocketFailure(refused).description == "Connection refused")
        #expect(SocketFailure(errno: ECONNRESET).description == "Connection reset by peer")
        #expect(SocketFailure(ChannelError.connectTimeout(.seconds(5))).description == "no answer in 5000 ms")
        let unknown = #expect(throws: (any Error).self) {
            try SocketAddress.makeAddressResolvingHost("nowhere.invalid", port: 1)
        }
        #expect(SocketFailure(try #require(unknown)).description.hasPrefix("nowhere.invalid cannot be resolved: "))
    }

    @Test(
        "The text for a listener names its setting, address, reason and remedy",
        arguments: [
            (EADDRINUSE, "another process uses this port"), (EACCES, "a port above 1023"),
            (EADDRNOTAVAIL, "this machine does not have this address"),
            (EAFNOSUPPORT, "give x_listen an IPv4 address"),
            (ENOTCONN, "Transport endpoint is not connected; give x_listen another address"),
        ]
    )
    func listening(_ number: CInt, _ words: String) {
        let failure = SocketFailure(IOError(errnoCode: number, reason: "bind(descriptor:ptr:bytes:)"))
        let text = failure.text(listeningOn: "127.0.0.1:80", key: "x_listen")
        #expect(text.hasPrefix("x_listen: cannot listen on 127.0.0.1:80: ") && text.contains(words), "\(text)")
    }
}
