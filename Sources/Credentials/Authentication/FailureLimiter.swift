package import NIOCore

/// A limit on failed attempts to authenticate: 10 a minute for each address, and 10 a minute for each pair of address
/// and token id. An id alone is never limited, so that an attacker cannot lock out an agent by failing with its id.
///
/// Each key holds one instant (the generic cell rate algorithm): a failure advances it by 6 s from now or from its
/// previous value, whichever is later, and more than 60 s ahead of now is above the limit. The tables are bounded; when
/// one is full, keys whose instant has passed are removed.
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

    /// - Parameter capacity: The maximum number of keys of each kind.
    package init(capacity: Int = 16_384) {
        self.capacity = capacity
    }

    /// Records one failure.
    ///
    /// - Parameter id: The id of an existing token, or `nil` for an unknown id, which counts for the address only.
    /// - Returns: `nil` below the limit, otherwise the time after which to retry.
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
        // A full table ignores new keys rather than dropping the ones that it limits.
        if known == nil, table.count >= capacity { return nil }
        let reached = max(known ?? now, now) + step
        guard reached <= now + period else { return reached - period - now }
        table[key] = reached
        return nil
    }

    /// Removes expired keys, at most once a second, because it visits all of them.
    private mutating func sweep(_ now: NIODeadline) {
        guard now >= nextSweep else { return }
        nextSweep = now + .seconds(1)
        addresses = addresses.filter { $0.value > now }
        attempts = attempts.filter { $0.value > now }
    }
}
