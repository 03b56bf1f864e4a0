import Glibc
package import NIOCore

/// An IP address and a port as 24 bytes without a reference: the demultiplexer's key and the destination of `sendmsg`.
///
/// `SocketAddress` boxes its content and compares through the box; this type is copied and hashed for every datagram.
package struct UDPAddress: Hashable, Sendable {
    /// The first half of an IPv6 address in network order; 0 for IPv4.
    private var high: UInt64
    /// The second half of an IPv6 address, or the four bytes of an IPv4 address, in network order.
    private var low: UInt64
    private var scope: UInt32
    /// The port in network order.
    private var rawPort: UInt16
    private var family: UInt16

    /// Creates the address, or returns `nil` for the address of a Unix socket.
    package init?(_ address: SocketAddress) {
        switch address {
        case .v4(let v4):
            self = withUnsafeBytes(of: v4.address) { UDPAddress($0) }
        case .v6(let v6):
            self = withUnsafeBytes(of: v6.address) { UDPAddress($0) }
        case .unixDomainSocket:
            return nil
        }
    }

    /// Creates the address from the bytes of a `sockaddr_in` or `sockaddr_in6`.
    private init(_ bytes: UnsafeRawBufferPointer) {
        family = bytes.load(as: UInt16.self)
        rawPort = bytes.load(fromByteOffset: Layout.port, as: UInt16.self)
        if CInt(family) == AF_INET6 {
            high = bytes.loadUnaligned(fromByteOffset: Layout.address6, as: UInt64.self)
            low = bytes.loadUnaligned(fromByteOffset: Layout.address6 + 8, as: UInt64.self)
            scope = bytes.load(fromByteOffset: Layout.scope6, as: UInt32.self)
        } else {
            high = 0
            low = UInt64(bytes.load(fromByteOffset: Layout.address4, as: UInt32.self))
            scope = 0
        }
    }

    /// The offsets in Linux's `sockaddr_in` (16 bytes) and `sockaddr_in6` (28 bytes).
    private enum Layout {
        static let port = 2
        static let address4 = 4
        static let address6 = 8
        static let scope6 = 24
        static let size4 = 16
        static let size6 = 28
    }

    package var port: UInt16 { UInt16(bigEndian: rawPort) }

    package var isIPv6: Bool { family == UInt16(AF_INET6) }

    /// Whether the address is `0.0.0.0` or `::`.
    package var isWildcard: Bool { high == 0 && low == 0 }

    /// The key by which limits count: an IPv4 address, or an IPv6 /64, which is what one subscriber gets. An IPv4
    /// address has the same key if it arrives at an IPv6 socket (mapped, RFC 4291 §2.5.5.2).
    package var limitKey: UInt64 {
        guard isIPv6 else { return Self.mappedPrefix | low << 32 }
        return isMapped ? low : high
    }

    /// The networks of the address, smallest first: those of its ``limitKey``, and of an IPv6 address the /56 and the
    /// /48, which sites get.
    package var networks: [UInt64] {
        guard isIPv6, !isMapped else { return [limitKey, limitKey, limitKey] }
        let prefix = UInt64(bigEndian: high)
        return [limitKey, UInt64(bigEndian: prefix & ~0xFF), UInt64(bigEndian: prefix & ~0xFFFF)]
    }

    private var isMapped: Bool { isIPv6 && high == 0 && low & UInt64(UInt32.max) == Self.mappedPrefix }

    /// The bytes 0 0 FF FF before a mapped IPv4 address, as the first half of `low`.
    private static let mappedPrefix = UInt64(bigEndian: 0xFFFF << 32)

    /// Writes the `sockaddr` of this address into zeroed storage.
    ///
    /// - Returns: The length of the `sockaddr`.
    func write(to storage: inout sockaddr_storage) -> socklen_t {
        withUnsafeMutableBytes(of: &storage) { bytes in
            bytes.storeBytes(of: family, as: UInt16.self)
            bytes.storeBytes(of: rawPort, toByteOffset: Layout.port, as: UInt16.self)
            guard isIPv6 else {
                let address = UInt32(truncatingIfNeeded: low)
                bytes.storeBytes(of: address, toByteOffset: Layout.address4, as: UInt32.self)
                return socklen_t(Layout.size4)
            }
            bytes.storeBytes(of: high, toByteOffset: Layout.address6, as: UInt64.self)
            bytes.storeBytes(of: low, toByteOffset: Layout.address6 + 8, as: UInt64.self)
            bytes.storeBytes(of: scope, toByteOffset: Layout.scope6, as: UInt32.self)
            return socklen_t(Layout.size6)
        }
    }

    /// Writes the payload of `IP_PKTINFO` or `IPV6_PKTINFO` with this address as the source, and no interface.
    ///
    /// - Returns: The level, the type and the size of the control message's payload.
    func writePacketInfo(to bytes: UnsafeMutableRawBufferPointer) -> (level: CInt, type: CInt, count: Int) {
        guard isIPv6 else {
            // Interface index, source, and destination, which only the kernel fills in.
            bytes.storeBytes(of: 0, as: UInt32.self)
            bytes.storeBytes(of: UInt32(truncatingIfNeeded: low), toByteOffset: 4, as: UInt32.self)
            bytes.storeBytes(of: 0, toByteOffset: 8, as: UInt32.self)
            return (CInt(IPPROTO_IP), LinuxOption.ipPacketInfo, 12)
        }
        bytes.storeBytes(of: high, as: UInt64.self)
        bytes.storeBytes(of: low, toByteOffset: 8, as: UInt64.self)
        bytes.storeBytes(of: 0, toByteOffset: 16, as: UInt32.self)
        return (CInt(IPPROTO_IPV6), LinuxOption.ipv6PacketInfo, 20)
    }

    /// Calls `body` with the bytes that enter a stateless cookie: address, port, family, scope.
    func withCookieBytes<Result>(_ body: (UnsafeRawBufferPointer) -> Result) -> Result {
        withUnsafeBytes(of: self, body)
    }
}
