package import NIOCore

/// Counts failed attempts to authenticate: 10 a minute for each address and for each address with a token id, never for
/// an id alone, so that nobody can lock out an agent by failing in its name.
///
/// Each key holds one instant (the generic cell rate algorithm): a failure moves it 6 s on from now or from where it
/// was, and more than 60 s ahead of now is over the limit. Bounded; when full, keys that have run out make room.
package struct FailureLimiter: Sendable {
    package static let failures = 10
    package static let period = TimeAmount.seconds(60)
    private static let step = TimeAmount.nanoseconds(period.nanoseconds / Int64(failures))

    private let capacity: Int
    private var addresses: [AddressKey: NIODeadline] = [:]
    private var attempts: [AttemptKey: NIODeadline] = [:]
    private var nextSweep = NIODeadline.uptimeNanoseconds(0)

    private struct AttemptKey: Hashable {
        let address: AddressKey
        let id: String
    }

    /// - Parameter capacity: keys of each kind at most.
    package init(capacity: Int = 16_384) {
        self.capacity = capacity
    }

    /// Records one failure.
    ///
    /// - Parameter id: of a token that exists; nil for one that does not, which only the address answers for.
    /// - Returns: nil while within the limit, else how long to stay away.
    package mutating func fail(_ address: AddressKey, id: String?, now: NIODeadline) -> TimeAmount? {
        if addresses.count >= capacity || attempts.count >= capacity { sweep(now) }
        let byAddress = Self.fail(&addresses, address, capacity, now)
        let byAttempt = id.flatMap { Self.fail(&attempts, AttemptKey(address: address, id: $0), capacity, now) }
        switch (byAddress, byAttempt) {
        case (nil, nil): return nil
        case (let wait?, nil), (nil, let wait?): return wait
        case (let one?, let other?): return max(one, other)
        }
    }

    private static func fail<Key: Hashable>(
        _ table: inout [Key: NIODeadline],
        _ key: Key,
        _ capacity: Int,
        _ now: NIODeadline
    ) -> TimeAmount? {
        let known = table[key]
        // A full table forgets the newcomer, not those that it already watches.
        if known == nil, table.count >= capacity { return nil }
        let reached = max(known ?? now, now) + step
        guard reached <= now + period else { return reached - period - now }
        table[key] = reached
        return nil
    }

    /// Seldom, because it walks over everything.
    private mutating func sweep(_ now: NIODeadline) {
        guard now >= nextSweep else { return }
        nextSweep = now + .seconds(1)
        addresses = addresses.filter { $0.value > now }
        attempts = attempts.filter { $0.value > now }
    }
}

/// Who is counted as one: an IPv4 address, or the /64 of an IPv6 address, which is what one host commonly gets.
package struct AddressKey: Hashable, Sendable {
    private let high: UInt64
    private let low: UInt64

    package init(_ address: SocketAddress) {
        // The members of these C structures are not visible here; their layout is the kernel's: family and port take
        // four bytes, in IPv6 the flow information takes four more, then comes the address.
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
