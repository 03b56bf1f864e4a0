import DTLS
import Glibc
import NIOCore
import Transport
import Tunnel

/// A peer without a driver: a bare socket, polled for short times, with DTLS and a tunnel worked by hand.
final class RawPeer {
    let socket: UDPSocket
    private(set) var dtls: DTLSSession?
    private var tunnel: TunnelConnection?
    private(set) var events: [TunnelEvent] = []
    /// Datagrams that were not for DTLS, or all while there is none.
    private(set) var others: [[UInt8]] = []
    private let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: 70_000, alignment: 16)

    init(to address: SocketAddress) throws {
        self.socket = try UDPSocket.connected(to: address)
    }

    deinit { self.buffer.deallocate() }

    func send(_ bytes: [UInt8]) {
        _ = Glibc.send(self.socket.descriptor, bytes, bytes.count, 0)
    }

    /// A new DTLS client on the same socket; what an old one was sent is dropped by DTLS.
    func restart() throws {
        let context = try DTLSContext.client(
            DTLSClientConfiguration(trust: .caPEM(TestCertificates.root), alpn: ["hop/1"])
        )
        self.dtls = try DTLSSession(client: context, serverName: "localhost", mtu: 1200, now: .now())
        self.tunnel = nil
        self.events = []
    }

    /// Works until `condition` holds or `limit` is over.
    /// - Returns: whether it held.
    @discardableResult
    func run(limit: TimeAmount = .seconds(5), until condition: (RawPeer) -> Bool) -> Bool {
        let deadline = NIODeadline.now() + limit
        while true {
            self.step()
            if condition(self) { return true }
            if NIODeadline.now() > deadline { return false }
            var descriptor = pollfd(fd: self.socket.descriptor, events: Int16(POLLIN), revents: 0)
            _ = poll(&descriptor, 1, 2)
        }
    }

    var isEstablished: Bool { self.events.contains(.established) }

    private func step() {
        let now = NIODeadline.now()
        self.flush(now: now)
        while true {
            let count = recv(self.socket.descriptor, self.buffer.baseAddress, self.buffer.count, 0)
            guard count > 0 else { break }
            self.take(UnsafeRawBufferPointer(rebasing: self.buffer[..<count]), now: now)
        }
        if let deadline = self.dtls?.pollTimeout(), deadline <= now { self.dtls?.handleTimeout(now: now) }
        if let deadline = self.tunnel?.pollTimeout(), deadline <= now { self.tunnel?.handleTimeout(now: now) }
        while let event = self.tunnel?.pollEvent() { self.events.append(event) }
        self.flush(now: now)
    }

    private func take(_ read: UnsafeRawBufferPointer, now: NIODeadline) {
        // The socket coalesces: equal datagrams of one burst come as one read. Records say where they end.
        var rest = read
        while rest.count >= 13 {
            let length = 13 + (Int(rest[11]) << 8 | Int(rest[12]))
            guard length <= rest.count else { break }
            self.takeRecord(UnsafeRawBufferPointer(rebasing: rest[..<length]), now: now)
            rest = UnsafeRawBufferPointer(rebasing: rest[length...])
        }
    }

    private func takeRecord(_ record: UnsafeRawBufferPointer, now: NIODeadline) {
        guard let dtls = self.dtls, !DTLSUnknownSessionAlert.matches(record) else {
            self.others.append(Array(record))
            return
        }
        let copy = Array(record)
        copy.withUnsafeBytes { dtls.handle(datagram: $0, now: now) }
        if self.tunnel == nil && dtls.state == .established {
            self.tunnel = TunnelConnection(
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
            self.tunnel?.handle(packet: UnsafeRawBufferPointer(rebasing: plaintext[..<count]), now: now)
        }
    }

    private func flush(now: NIODeadline) {
        guard let dtls = self.dtls else { return }
        let out = UnsafeMutableRawBufferPointer.allocate(byteCount: 4_096, alignment: 16)
        let packet = UnsafeMutableRawBufferPointer.allocate(byteCount: 4_096, alignment: 16)
        defer {
            out.deallocate()
            packet.deallocate()
        }
        while let count = dtls.pollTransmit(into: out) {
            _ = Glibc.send(self.socket.descriptor, out.baseAddress, count, 0)
        }
        while dtls.state == .established, let count = self.tunnel?.pollTransmit(now: now, into: packet) {
            guard let sealed = try? dtls.seal(UnsafeRawBufferPointer(rebasing: packet[..<count]), into: out) else {
                break
            }
            _ = Glibc.send(self.socket.descriptor, out.baseAddress, sealed, 0)
        }
    }
}
