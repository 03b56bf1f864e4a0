import Glibc
import NIOCore
import NIOPosix
import Synchronization
import TestSupport
import Testing
import Transport

/// Records what a socket receives.
private final class RecordingSink: DatagramSink {
    struct Received: Sendable {
        var datagrams: [[UInt8]] = []
        var from: [UDPAddress] = []
        var to: [UDPAddress?] = []
        var turns = 0
        var refusals = 0
        var closed = 0
    }

    let signal = Observed(Received())

    func receiveBegins() { signal.update { $0.turns += 1 } }
    func received(
        _ datagram: UnsafeRawBufferPointer,
        from address: UDPAddress,
        to local: UDPAddress?,
        socketAddress: SocketAddress
    ) {
        signal.update {
            $0.datagrams.append(Array(datagram))
            $0.from.append(address)
            $0.to.append(local)
        }
    }
    func receiveEnded() {}
    func peerRefused() { signal.update { $0.refusals += 1 } }
    func channelClosed() { signal.update { $0.closed += 1 } }
}

@Suite("Datagrams through our socket and NIO's reads")
struct DatagramTests {
    private let loop = MultiThreadedEventLoopGroup.singleton.next()

    private static func loopback(_ ipv6: Bool = false) throws -> SocketAddress {
        try SocketAddress(ipAddress: ipv6 ? "::1" : "127.0.0.1", port: 0)
    }

    /// Returns a burst of `count` datagrams of `size` bytes, the last of `lastSize`, each filled with its number.
    private static func burst(count: Int, size: Int, lastSize: Int) -> [UInt8] {
        (0..<count).flatMap { [UInt8](repeating: UInt8($0), count: $0 == count - 1 ? lastSize : size) }
    }

    private func open(
        _ socket: UDPSocket,
        _ sink: RecordingSink,
        _ counters: TransportCounters
    ) async throws -> any Channel {
        let bound = UncheckedSendable((socket, sink, counters))
        return try await loop.flatSubmit {
            let (socket, sink, counters) = bound.value
            do {
                return try DatagramChannel.open(socket, on: loop, sink: sink, counters: counters)
            } catch {
                return loop.makeFailedFuture(error)
            }
        }.get()
    }

    @Test("One sendmsg with UDP_SEGMENT arrives as whole datagrams through one NIO socket", arguments: [false, true])
    func segmentation(ipv6: Bool) async throws {
        let counters = TransportCounters()
        let receiver = try UDPSocket.bound(to: Self.loopback(ipv6))
        let sink = RecordingSink()
        let channel = try await open(receiver, sink, counters)
        let sender = DatagramSender(
            socket: try UDPSocket.bound(to: Self.loopback(ipv6)),
            counters: counters
        )
        var path = DatagramSender.Path(address: UDPAddress(receiver.localAddress))
        let burst = Self.burst(count: 50, size: 1200, lastSize: 700)
        let fate = burst.withUnsafeBytes { sender.send($0, segmentSize: 1200, path: &path) }
        #expect(fate == .sent)
        let received = try await sink.signal.wait("50 datagrams") { $0.datagrams.count >= 50 }
        #expect(received.datagrams.map(\.count) == Array(repeating: 1200, count: 49) + [700])
        #expect(received.datagrams.enumerated().allSatisfy { index, bytes in bytes.allSatisfy { $0 == index } })
        #expect(received.from.allSatisfy { $0 == UDPAddress(sender.socket.localAddress) })
        #expect(counters.burstsOut.current == 1)
        #expect(counters.datagramsOut.current == 50)
        #expect(counters.datagramsIn.current == 50)
        #expect(counters.readsIn.current < 50, "the kernel coalesced")
        try await channel.close().get()
        #expect(sink.signal.value.closed == 1)
    }

    @Test(
        "A socket with all addresses reports the one that was asked, and sends bursts from the one it is told",
        arguments: [("0.0.0.0", "127.0.0.3"), ("::", "127.0.0.3"), ("::", "::1")]
    )
    func wildcard(host: String, asked: String) async throws {
        let counters = TransportCounters()
        let socket = try UDPSocket.bound(to: SocketAddress(ipAddress: host, port: 0))
        let port = try #require(socket.localAddress.port)
        let sink = RecordingSink()
        let channel = try await open(socket, sink, counters)
        // Connected: it receives from that address only.
        let peer = try UDPSocket.connected(to: SocketAddress(ipAddress: asked, port: port))
        _ = Glibc.send(peer.descriptor, [1], 1, 0)
        let received = try await sink.signal.wait("a datagram") { !$0.datagrams.isEmpty }
        let local = try #require(received.to[0])
        #expect(local.limitKey == UDPAddress(try SocketAddress(ipAddress: asked, port: 0))?.limitKey)
        let sender = DatagramSender(socket: socket, counters: counters)
        var path = DatagramSender.Path(address: received.from[0], local: local)
        let answers = RecordingSink()
        let answerChannel = try await open(peer, answers, TransportCounters())
        let burst = Self.burst(count: 20, size: 1200, lastSize: 700)
        #expect(burst.withUnsafeBytes { sender.send($0, segmentSize: 1200, path: &path) } == .sent)
        let single = [UInt8](repeating: 0, count: 9)
        #expect(single.withUnsafeBytes { sender.send($0, segmentSize: 9, path: &path) } == .sent)
        let all = try await answers.signal.wait("21 datagrams") { $0.datagrams.count >= 21 }
        #expect(all.datagrams.map(\.count) == Array(repeating: 1200, count: 19) + [700, 9])
        #expect(counters.burstsOut.current == 2)
        try await channel.close().get()
        try await answerChannel.close().get()
    }

    @Test("A burst of 64,000 bytes is not cut by a slot of the vector read")
    func largeBurst() async throws {
        let counters = TransportCounters()
        let receiver = try UDPSocket.bound(to: Self.loopback())
        let sink = RecordingSink()
        let channel = try await open(receiver, sink, counters)
        let sender = DatagramSender(socket: try .connected(to: receiver.localAddress), counters: counters)
        var path = DatagramSender.Path(address: nil)
        for _ in 0..<8 {
            let burst = Self.burst(count: 45, size: 1400, lastSize: 1400)
            #expect(burst.withUnsafeBytes { sender.send($0, segmentSize: 1400, path: &path) } == .sent)
        }
        let received = try await sink.signal.wait("360 datagrams") { $0.datagrams.count >= 360 }
        #expect(received.datagrams.allSatisfy { $0.count == 1400 })
        try await channel.close().get()
    }

    @Test(
        "A refused burst is sent one datagram at a time, and the refusal is remembered",
        arguments: [EIO, EINVAL, EMSGSIZE]
    )
    func fallback(code: CInt) async throws {
        let counters = TransportCounters()
        let receiver = try UDPSocket.bound(to: Self.loopback())
        let sink = RecordingSink()
        let channel = try await open(receiver, sink, counters)
        let sender = DatagramSender(
            socket: try UDPSocket.bound(to: Self.loopback()),
            counters: counters
        )
        sender.injectedFailure = { segments, _ in segments > 1 ? code : nil }
        var path = DatagramSender.Path(address: UDPAddress(receiver.localAddress))
        let burst = Self.burst(count: 10, size: 500, lastSize: 20)
        for _ in 0..<2 {
            #expect(burst.withUnsafeBytes { sender.send($0, segmentSize: 500, path: &path) } == .sent)
        }
        let received = try await sink.signal.wait("20 datagrams") { $0.datagrams.count >= 20 }
        #expect(
            received.datagrams.map(\.count) == (Array(repeating: 500, count: 9) + [20])
                + (Array(repeating: 500, count: 9) + [20])
        )
        #expect(counters.burstsRefused.current == 1, "asked once only")
        #expect(sender.cutsBursts == (code != EIO), "EIO is the socket's, the others are the peer's")
        #expect(path.cutsBursts == (code == EIO))
        try await channel.close().get()
    }

    @Test("A burst that finds the buffer full is kept, and sent when there is room", arguments: [EAGAIN, ENOBUFS])
    func blocked(code: CInt) async throws {
        let counters = TransportCounters()
        let receiver = try UDPSocket.bound(to: Self.loopback())
        let sink = RecordingSink()
        let channel = try await open(receiver, sink, counters)
        let sender = DatagramSender(
            socket: try UDPSocket.bound(to: Self.loopback()),
            counters: counters
        )
        var path = DatagramSender.Path(address: UDPAddress(receiver.localAddress))
        sender.injectedFailure = { _, _ in code }
        let burst = Self.burst(count: 5, size: 300, lastSize: 30)
        #expect(burst.withUnsafeBytes { sender.send($0, segmentSize: 300, path: &path) } == .blocked)
        #expect(sender.isBlocked)
        #expect(sender.retry() == .blocked)
        sender.injectedFailure = nil
        #expect(sender.retry() == .sent)
        #expect(!sender.isBlocked)
        #expect(sender.retry() == .sent)
        let received = try await sink.signal.wait("5 datagrams") { $0.datagrams.count >= 5 }
        #expect(received.datagrams.map(\.count) == [300, 300, 300, 300, 30])
        try await channel.close().get()
    }

    @Test("A buffer that fills up while datagrams are sent one by one keeps only the rest")
    func blockedHalfway() async throws {
        let counters = TransportCounters()
        let receiver = try UDPSocket.bound(to: Self.loopback())
        let sink = RecordingSink()
        let channel = try await open(receiver, sink, counters)
        let sender = DatagramSender(
            socket: try UDPSocket.bound(to: Self.loopback()),
            counters: counters
        )
        var path = DatagramSender.Path(address: UDPAddress(receiver.localAddress))
        let calls = Mutex(0)
        sender.injectedFailure = { segments, _ in
            if segments > 1 { return EIO }
            return calls.withLock { calls in
                calls += 1
                return calls == 3 ? EAGAIN : nil
            }
        }
        let burst = Self.burst(count: 6, size: 100, lastSize: 10)
        #expect(burst.withUnsafeBytes { sender.send($0, segmentSize: 100, path: &path) } == .blocked)
        #expect(sender.retry() == .sent)
        let received = try await sink.signal.wait("6 datagrams") { $0.datagrams.count >= 6 }
        #expect(received.datagrams.map(\.first) == [0, 1, 2, 3, 4, 5])
        try await channel.close().get()
    }

    @Test("A datagram larger than the device's MTU is reported as too large")
    func tooLarge() async throws {
        let counters = TransportCounters()
        let sender = DatagramSender(
            socket: try UDPSocket.bound(to: Self.loopback()),
            counters: counters
        )
        sender.injectedFailure = { _, _ in EMSGSIZE }
        var path = DatagramSender.Path(address: UDPAddress(try SocketAddress(ipAddress: "127.0.0.1", port: 9)))
        let one = [UInt8](repeating: 0, count: 1200)
        #expect(one.withUnsafeBytes { sender.send($0, segmentSize: 1200, path: &path) } == .tooLarge)
        #expect(path.cutsBursts, "a single datagram says nothing about bursts")
        sender.injectedFailure = { _, _ in ENETUNREACH }
        #expect(
            one.withUnsafeBytes { sender.send($0, segmentSize: 1200, path: &path) } == .failed(errno: ENETUNREACH)
        )
        #expect(counters.datagramsTooLarge.current == 1)
        #expect(counters.datagramsFailed.current == 1)
    }

    @Test("A closed port of the peer is reported as refused on a connected socket")
    func refused() async throws {
        let counters = TransportCounters()
        var closed: UDPSocket? = try UDPSocket.bound(to: Self.loopback())
        let address = try #require(closed).localAddress
        closed = nil
        let socket = try UDPSocket.connected(to: address)
        let sink = RecordingSink()
        let channel = try await open(socket, sink, counters)
        let sender = UncheckedSendable(DatagramSender(socket: socket, counters: counters))
        let outcomes = try await loop.submit {
            var path = DatagramSender.Path(address: nil)
            let one = [UInt8](repeating: 0, count: 10)
            return (0..<2).map { _ in one.withUnsafeBytes { sender.value.send($0, segmentSize: 10, path: &path) } }
        }.get()
        // The second call reports the outcome of the first, or NIO's read does.
        if !outcomes.contains(.refused) {
            try await sink.signal.wait("the refusal") { $0.refusals > 0 }
        }
        try? await channel.close().get()
    }

    @Test("Sockets of one group share a port and its peers; neither a socket nor another group can bind it")
    func sharedPort() async throws {
        let group = try UDPSocket.group(of: 2, boundTo: Self.loopback())
        let address = group[0].localAddress
        #expect(group[1].localAddress == address)
        // The kernel chooses by a hash of the peer's address: of 64 peers, both sockets get some.
        let sinks = [RecordingSink(), RecordingSink()]
        let counters = TransportCounters()
        let channels = [
            try await open(group[0], sinks[0], counters), try await open(group[1], sinks[1], counters),
        ]
        for _ in 0..<64 {
            let peer = try UDPSocket.connected(to: address)
            _ = Glibc.send(peer.descriptor, [1], 1, 0)
        }
        try await eventually("all arrived") { counters.datagramsIn.current == 64 }
        #expect(sinks.allSatisfy { !$0.signal.value.datagrams.isEmpty })
        for count in 1...2 {
            do throws(TransportError) {
                _ = try UDPSocket.group(of: count, boundTo: address)
                Issue.record("the port was bound twice")
            } catch {
                #expect(error.errno == EADDRINUSE)
                #expect(error.description == "bind \(address.text): Address already in use")
            }
        }
        for channel in channels { try await channel.close().get() }
    }

    @Test("An address is unchanged by conversion to sockaddr and back, and limits count IPv6 by /64")
    func addresses() throws {
        let first = try #require(UDPAddress(SocketAddress(ipAddress: "2001:db8::1", port: 4433)))
        let second = try #require(UDPAddress(SocketAddress(ipAddress: "2001:db8::2", port: 4433)))
        let other = try #require(UDPAddress(SocketAddress(ipAddress: "2001:db8:0:1::1", port: 4433)))
        #expect(first != second && first.limitKey == second.limitKey && first.limitKey != other.limitKey)
        #expect(first.port == 4433)
        let mapped = try #require(UDPAddress(SocketAddress(ipAddress: "::ffff:10.0.0.1", port: 1)))
        let mapped2 = try #require(UDPAddress(SocketAddress(ipAddress: "::ffff:10.0.0.2", port: 1)))
        let plain = try #require(UDPAddress(SocketAddress(ipAddress: "10.0.0.1", port: 9)))
        #expect(mapped.limitKey != mapped2.limitKey && mapped.limitKey == plain.limitKey)
        // 2001:db8::/64 begins with the bytes of this address.
        let alike = try #require(UDPAddress(SocketAddress(ipAddress: "32.1.13.184", port: 1)))
        #expect(alike.limitKey != first.limitKey)
        #expect(try SocketAddress(ipAddress: "::ffff:10.0.0.2", port: 7).unmapped.text == "10.0.0.2:7")
        #expect(try SocketAddress(ipAddress: "2001:db8::1", port: 7).unmapped.text == "[2001:db8::1]:7")
        #expect(UDPAddress(try SocketAddress(unixDomainSocketPath: "/tmp/x")) == nil)
    }
}

/// Transfers a loop-confined value to its loop.
struct UncheckedSendable<Value>: @unchecked Sendable {
    let value: Value

    init(_ value: Value) { self.value = value }
}
