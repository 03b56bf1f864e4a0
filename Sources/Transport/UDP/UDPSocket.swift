import Glibc
package import NIOCore

/// A UDP socket that is created, bound or connected here. It never blocks and never fragments.
///
/// Its owner sends on `descriptor` with ``DatagramSender`` and gives NIO a duplicate to read from, because NIO closes
/// its channel on most errors. The port stays ours as long as this object lives, so a closed channel is replaced by one
/// on another duplicate and no datagram is lost between them.
package final class UDPSocket {
    /// The file descriptor, or -1 once released.
    package private(set) var descriptor: CInt
    package let localAddress: SocketAddress
    /// The peer, or `nil` if the socket is unconnected and each datagram names its peer.
    package let remoteAddress: SocketAddress?
    /// Whether the kernel coalesces received datagrams (`UDP_GRO`).
    package let coalescesReads: Bool
    /// Whether the kernel reports the address that each datagram was sent to, because the socket has all of the
    /// machine's addresses.
    package let reportsLocalAddress: Bool

    /// The requested buffer sizes in bytes. The kernel caps them at its `rmem_max` and `wmem_max`.
    package struct BufferSizes: Sendable {
        package var receive: CInt = 4 << 20
        package var send: CInt = 2 << 20

        package init() {}
    }

    /// Creates an unconnected socket. Its port is not in use by any other socket.
    package static func bound(
        to address: SocketAddress,
        buffers: BufferSizes = .init()
    ) throws(TransportError) -> UDPSocket {
        try UDPSocket(local: address, remote: nil, sharesPort: false, buffers: buffers)
    }

    /// Creates unconnected sockets that share one port; the kernel distributes peers over them.
    ///
    /// The first one is bound like any other socket and accepts the others only then. So a second process fails with
    /// EADDRINUSE, although it forms such a group too: with `SO_REUSEPORT` on every socket, both would run and each
    /// would receive a part of the datagrams.
    package static func group(
        of count: Int,
        boundTo address: SocketAddress,
        buffers: BufferSizes = .init()
    ) throws(TransportError) -> [UDPSocket] {
        let first = try bound(to: address, buffers: buffers)
        var sockets = [first]
        guard count > 1 else { return sockets }
        try set(first.descriptor, SOL_SOCKET, SO_REUSEPORT, 1, "SO_REUSEPORT")
        while sockets.count < count {
            sockets.append(
                try UDPSocket(local: first.localAddress, remote: nil, sharesPort: true, buffers: buffers)
            )
        }
        return sockets
    }

    /// Creates a connected socket on a port of the kernel's choice. It receives from `address` only, and learns of
    /// ECONNREFUSED.
    package static func connected(
        to address: SocketAddress,
        buffers: BufferSizes = .init()
    ) throws(TransportError) -> UDPSocket {
        try UDPSocket(local: nil, remote: address, sharesPort: false, buffers: buffers)
    }

    private init(
        local: SocketAddress?,
        remote: SocketAddress?,
        sharesPort: Bool,
        buffers: BufferSizes
    ) throws(TransportError) {
        let family: CInt
        switch local ?? remote {
        case .v4: family = AF_INET
        case .v6: family = AF_INET6
        default: throw TransportError(code: .unsupportedAddress, operation: "UDP needs an IP address")
        }
        let type = CInt(SOCK_DGRAM.rawValue) | CInt(SOCK_NONBLOCK.rawValue) | CInt(SOCK_CLOEXEC.rawValue)
        let descriptor = socket(family, type, 0)
        guard descriptor >= 0 else { throw TransportError(code: .systemCall, operation: "socket", errno: errno) }
        self.descriptor = descriptor
        remoteAddress = remote
        do throws(TransportError) {
            if sharesPort { try Self.set(descriptor, SOL_SOCKET, SO_REUSEPORT, 1, "SO_REUSEPORT") }
            if family == AF_INET6 {
                try Self.set(
                    descriptor,
                    CInt(IPPROTO_IPV6),
                    LinuxOption.ipv6MTUDiscover,
                    LinuxOption.probe,
                    "IPV6_MTU_DISCOVER"
                )
            }
            reportsLocalAddress = local.flatMap { UDPAddress($0) }?.isWildcard ?? false
            if reportsLocalAddress {
                if family == AF_INET6 {
                    let level = CInt(IPPROTO_IPV6)
                    // The default is a setting of the machine.
                    try Self.set(descriptor, level, LinuxOption.ipv6Only, 0, "IPV6_V6ONLY")
                    try Self.set(descriptor, level, LinuxOption.ipv6ReceivePacketInfo, 1, "IPV6_RECVPKTINFO")
                } else {
                    try Self.set(descriptor, CInt(IPPROTO_IP), LinuxOption.ipPacketInfo, 1, "IP_PKTINFO")
                }
            }
            // A dual-stack socket sends IPv4 too, and no socket refuses IPv4's option; a pure IPv4 socket must accept
            // it.
            let level = CInt(IPPROTO_IP)
            let probing = Self.trySet(descriptor, level, LinuxOption.ipMTUDiscover, LinuxOption.probe)
            if !probing && family == AF_INET {
                throw TransportError(code: .systemCall, operation: "IP_MTU_DISCOVER", errno: errno)
            }
            // The kernel may grant less, or nothing in a sandbox; the protocol copes with a full buffer as with loss.
            _ = Self.trySet(descriptor, SOL_SOCKET, SO_RCVBUF, buffers.receive)
            _ = Self.trySet(descriptor, SOL_SOCKET, SO_SNDBUF, buffers.send)
            coalescesReads = Self.trySet(descriptor, LinuxOption.udpLevel, LinuxOption.udpReceiveOffload, 1)
            if let local {
                let failed = local.withSockAddr { bind(descriptor, $0, socklen_t($1)) } != 0
                if failed { throw TransportError(code: .systemCall, operation: "bind \(local.text)", errno: errno) }
            }
            if let remote {
                let failed = remote.withSockAddr { connect(descriptor, $0, socklen_t($1)) } != 0
                if failed { throw TransportError(code: .systemCall, operation: "connect \(remote.text)", errno: errno) }
            }
            localAddress = try Self.localAddress(of: descriptor)
        } catch {
            _ = close(descriptor)
            throw error
        }
    }

    deinit {
        release()
    }

    /// Frees the port, as soon as NIO has closed its duplicate too. Nothing may be sent afterwards.
    package func release() {
        guard descriptor >= 0 else { return }
        _ = close(descriptor)
        descriptor = -1
    }

    /// Returns a descriptor for NIO to own. Both share one open socket: options, queue, port.
    package func duplicate() throws(TransportError) -> CInt {
        let duplicate = fcntl(descriptor, F_DUPFD_CLOEXEC, 0)
        guard duplicate >= 0 else { throw TransportError(code: .systemCall, operation: "dup", errno: errno) }
        return duplicate
    }

    private static func localAddress(of descriptor: CInt) throws(TransportError) -> SocketAddress {
        var storage = sockaddr_storage()
        var length = socklen_t(MemoryLayout<sockaddr_storage>.size)
        let result = withUnsafeMutableBytes(of: &storage) {
            getsockname(descriptor, $0.baseAddress!.assumingMemoryBound(to: sockaddr.self), &length)
        }
        guard result == 0 else { throw TransportError(code: .systemCall, operation: "getsockname", errno: errno) }
        return withUnsafeBytes(of: storage) {
            CInt(storage.ss_family) == AF_INET6
                ? SocketAddress($0.load(as: sockaddr_in6.self)) : SocketAddress($0.load(as: sockaddr_in.self))
        }
    }

    private static func set(
        _ descriptor: CInt,
        _ level: CInt,
        _ option: CInt,
        _ value: CInt,
        _ name: String
    ) throws(TransportError) {
        guard Self.trySet(descriptor, level, option, value) else {
            throw TransportError(code: .systemCall, operation: name, errno: errno)
        }
    }

    private static func trySet(_ descriptor: CInt, _ level: CInt, _ option: CInt, _ value: CInt) -> Bool {
        var value = value
        return setsockopt(descriptor, level, option, &value, socklen_t(MemoryLayout<CInt>.size)) == 0
    }
}

/// Numbers of `linux/udp.h` and `linux/in.h` that Glibc's module map omits.
enum LinuxOption {
    static let udpLevel: CInt = 17
    static let udpSegment: CInt = 103
    static let udpReceiveOffload: CInt = 104
    static let ipPacketInfo: CInt = 8
    static let ipv6ReceivePacketInfo: CInt = 49
    static let ipv6PacketInfo: CInt = 50
    static let ipv6Only: CInt = 26
    static let ipMTUDiscover: CInt = 10
    static let ipv6MTUDiscover: CInt = 23
    /// `IP_PMTUDISC_PROBE`: sets DF and ignores the kernel's estimate of the path MTU.
    static let probe: CInt = 3
}

/// The error numbers of sockets that sessions distinguish.
enum DatagramErrno {
    static let connectionRefused = ECONNREFUSED
}
