package import NIOCore

/// The unit of addresses that share one limit: an IPv4 address, or the /64 network of an IPv6 address, which is what
/// one host commonly gets.
package struct AddressKey: Hashable, Sendable {
    private let high: UInt64
    private let low: UInt64

    package init(_ address: SocketAddress) {
        // The members of these C structures are not visible here, so they are read by their offsets in the kernel's
        // ABI: family and port take four bytes; in IPv6 the flow information takes four more; then follows the address.
        switch address {
        case .v4(let v4):
            high = 0
            low = withUnsafeBytes(of: v4.address) { UInt64($0.loadUnaligned(fromByteOffset: 4, as: UInt32.self)) }
        case .v6(let v6):
            let (first, second) = withUnsafeBytes(of: v6.address) { bytes in
                (
                    bytes.loadUnaligned(fromByteOffset: 8, as: UInt64.self),
                    bytes.loadUnaligned(fromByteOffset: 16, as: UInt64.self).bigEndian
                )
            }
            // ::ffff:0:0/96 is IPv4 in an IPv6 socket.
            if first == 0, second >> 32 == 0xFFFF {
                high = 0
                low = UInt64(UInt32(truncatingIfNeeded: second).bigEndian)
            } else {
                high = first
                low = 1 << 32
            }
        case .unixDomainSocket:
            high = 0
            low = 1 << 33
        }
    }
}
