import DTLS
import Glibc
import NIOCore
import TestSupport
import Transport
import Tunnel

/// A peer without a driver: a bare socket, polled for short times, with DTLS and a tunnel driven by hand.
final class RawPeer {
    let socket: UDPSocket
    private(set) var dtls: DTLSSession?
    private var tunnel: TunnelConnection?
    private(set) var events: [TunnelEvent] = []
    /// The datagrams that were not for DTLS, or all of them while there is no session.
    private(set) var others: [[UInt8]] = []
    /// The number of datagrams that DTLS authenticated.
    private(set) var authentic = 0
    private let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: 70_000, alignment: 16)

    init(to address: SocketAddress) throws {
        socket = try UDPSocket.connected(to: address)
    }

    deinit { buffer.deallocate() }

    /// Sends to another address from now on, and receives from this one only. The own address and port stay.
    func connect(to address: SocketAddress) {
        _ = address.withSockAddr { Glibc.connect(socket.descriptor, $0, socklen_t($1)) }
    }

    /// Sends a PING at the next step.
    func ping() { tunnel?.ping(now: .now()) }

    func send(_ bytes: [UInt8]) {
        _ = Glibc.send(socket.descriptor, bytes, bytes.count, 0)
    }

    /// Starts a new DTLS client on the same socket. DTLS drops datagrams that were sent to the old one.
    func restart() throws {
        let context = try DTLSContext.client(
            DTLSClientConfiguration(trust: .caPEM(TestAuthority.shared.pem), alpn: ["hop/1"])
        )
        dtls = try DTLSSession(client: context, serverName: "localhost", mtu: 1200, now: .now())
        tunnel = nil
        events = []
    }

    /// Runs until `condition` holds or `limit` has passed.
    ///
    /// - Returns: Whether the condition held.
    @discardableResult
    func run(limit: TimeAmount = .seconds(5), until condition: (RawPeer) -> Bool) -> Bool {
        let deadline = NIODeadline.now() + limit
        while true {
            step()
            if condition(self) { return true }
            if NIODeadline.now() > deadline { return false }
            var descriptor = pollfd(fd: socket.descriptor, events: Int16(POLLIN), revents: 0)
            _ = poll(&descriptor, 1, 2)
        }
    }

    var isEstablished: Bool { events.contains(.established) }

    private func step() {
        let now = NIODeadline.now()
        flush(now: now)
        while true {
            let count = recv(socket.descriptor, buffer.baseAddress, buffer.count, 0)
            guard count > 0 else { break }
            receive(UnsafeRawBufferPointer(rebasing: buffer[..<count]), now: now)
        }
        if let deadline = dtls?.pollTimeout(), deadline <= now { dtls?.handleTimeout(now: now) }
        if let deadline = tunnel?.pollTimeout(), deadline <= now { tunnel?.handleTimeout(now: now) }
        while let event = tunnel?.pollEvent() { events.append(event) }
        flush(now: now)
    }

    private func receive(_ read: UnsafeRawBufferPointer, now: NIODeadline) {
        // The socket coalesces: equal datagrams of one burst come as one read. The headers of the records give their
        // lengths.
        var rest = read
        while rest.count >= 13 {
            let length = 13 + (Int(rest[11]) << 8 | Int(rest[12]))
            guard length <= rest.count else { break }
            handleRecord(UnsafeRawBufferPointer(rebasing: rest[..<length]), now: now)
            rest = UnsafeRawBufferPointer(rebasing: rest[length...])
        }
    }

    private func handleRecord(_ record: UnsafeRawBufferPointer, now: NIODeadline) {
        guard let dtls, !DTLSUnknownSessionAlert.matches(record) else {
            others.append(Array(record))
            return
        }
        let copy = Array(record)
        copy.withUnsafeBytes { dtls.handle(datagram: $0, now: now) }
        if tunnel == nil && dtls.state == .established {
            tunnel = TunnelConnection(
                role: .client,
                configuration: TunnelConfiguration(),
                maxPacketSize: 1200 - dtls.recordOverhead,
                handshakeRTT: nil,
                now: now
            )
        }
        let plaintext = UnsafeMutableRawBufferPointer.allocate(byteCount: 17 << 10, alignment: 16)
        defer { plaintext.deallocate() }
        while let count = dtls.read(into: plaintext) {
            authentic += 1
            tunnel?.handle(packet: UnsafeRawBufferPointer(rebasing: plaintext[..<count]), now: now)
        }
    }

    private func flush(now: NIODeadline) {
        guard let dtls else { return }
        let out = UnsafeMutableRawBufferPointer.allocate(byteCount: 4_096, alignment: 16)
        let packet = UnsafeMutableRawBufferPointer.allocate(byteCount: 4_096, alignment: 16)
        defer {
            out.deallocate()
            packet.deallocate()
        }
        while let count = dtls.pollTransmit(into: out) {
            _ = Glibc.send(socket.descriptor, out.baseAddress, count, 0)
        }
        while dtls.state == .established, let count = tunnel?.pollTransmit(now: now, into: packet) {
            guard let sealed = try? dtls.seal(UnsafeRawBufferPointer(rebasing: packet[..<count]), into: out) else {
                break
            }
            _ = Glibc.send(socket.descriptor, out.baseAddress, sealed, 0)
        }
    }
}
