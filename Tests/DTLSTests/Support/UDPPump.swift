import DTLS
import Foundation
import NIOCore

/// A UDP socket on 127.0.0.1 for the exchange with other programs.
final class LoopbackSocket {
    let descriptor: Int32
    let port: UInt16

    init() {
        descriptor = socket(AF_INET, Int32(SOCK_DGRAM.rawValue), 0)
        precondition(descriptor >= 0, "no socket")
        var address = Self.address(port: 0)
        var length = socklen_t(MemoryLayout<sockaddr_in>.size)
        let descriptor = descriptor
        let bound = withUnsafeMutablePointer(to: &address) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { pointer in
                bind(descriptor, pointer, length) == 0 && getsockname(descriptor, pointer, &length) == 0
            }
        }
        precondition(bound, "no port")
        port = UInt16(bigEndian: address.sin_port)
    }

    deinit {
        Glibc.close(descriptor)
    }

    static func address(port: UInt16) -> sockaddr_in {
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_port = port.bigEndian
        address.sin_addr.s_addr = UInt32(0x7f00_0001).bigEndian
        return address
    }

    func send(_ datagram: [UInt8], to address: sockaddr_in) {
        var address = address
        _ = withUnsafePointer(to: &address) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { pointer in
                sendto(descriptor, datagram, datagram.count, 0, pointer, socklen_t(MemoryLayout<sockaddr_in>.size))
            }
        }
    }

    /// Waits at most `milliseconds`.
    func receive(milliseconds: Int32) -> (datagram: [UInt8], from: sockaddr_in)? {
        var waiting = pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)
        guard poll(&waiting, 1, milliseconds) > 0 else { return nil }
        var address = sockaddr_in()
        var length = socklen_t(MemoryLayout<sockaddr_in>.size)
        var datagram = [UInt8](repeating: 0, count: 65_536)
        let count = withUnsafeMutablePointer(to: &address) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { pointer in
                recvfrom(descriptor, &datagram, datagram.count, Int32(MSG_DONTWAIT), pointer, &length)
            }
        }
        guard count >= 0 else { return nil }
        return (Array(datagram.prefix(count)), address)
    }
}

/// A driver of one session with a peer at the other end of a real socket.
final class UDPPump {
    let socket = LoopbackSocket()
    private let listener: DTLSListener?
    private(set) var session: DTLSSession?
    private var peer: sockaddr_in?
    private(set) var received: [UInt8] = []

    /// Waits for a client.
    init(server context: DTLSContext) {
        listener = DTLSListener(context: context, secret: DTLSCookieSecret())
    }

    /// Dials 127.0.0.1.
    init(client context: DTLSContext, serverName: String, port: UInt16) throws {
        listener = nil
        peer = LoopbackSocket.address(port: port)
        session = try DTLSSession(client: context, serverName: serverName, mtu: 1200, now: .now())
    }

    /// Runs until `done`. Returns whether it became true in time.
    func run(seconds: Int64 = 10, until done: (UDPPump) -> Bool) -> Bool {
        let deadline = NIODeadline.now() + .seconds(seconds)
        while !done(self) {
            let now = NIODeadline.now()
            if now >= deadline { return false }
            session?.handleTimeout(now: now)
            flush()
            guard let (datagram, from) = socket.receive(milliseconds: 10) else { continue }
            handle(datagram, from)
            flush()
        }
        return true
    }

    func send(_ bytes: [UInt8]) throws {
        socket.send(try session!.seal(bytes), to: peer!)
    }

    func close() {
        session?.close()
        flush()
    }

    private func flush() {
        guard let peer else { return }
        for datagram in session?.transmitAll() ?? [] { socket.send(datagram, to: peer) }
    }

    private func handle(_ datagram: [UInt8], _ from: sockaddr_in) {
        if let session {
            session.handle(datagram, now: .now())
            for record in session.readAll() { received += record }
        } else if let listener {
            let port = [UInt8(truncatingIfNeeded: from.sin_port >> 8), UInt8(truncatingIfNeeded: from.sin_port)]
            if case .session(let accepted) = listener.handle(datagram, peer: port, now: .now()) {
                session = accepted
                peer = from
            }
            for reply in listener.transmitAll() { socket.send(reply, to: from) }
        }
    }
}
