package import NIOCore

/// The parameters of ``Store/lease(_:_:)``.
package struct LeaseOptions: Sendable {
    /// The keys that are written under this lease. After an earlier holder that did not release the lease, a new holder
    /// first writes each of them again, so that no write of the earlier one succeeds any more. The same for every
    /// process that acquires the lease.
    package var guards: [StoreKey]
    /// The time without a renewal after which the holder is considered dead. Recorded with the lease: a waiting process
    /// applies the holder's or its own, whichever is longer. At most ten minutes.
    package var timeToLive = TimeAmount.seconds(15)
    /// The longest time to wait for the lease.
    package var patience = TimeAmount.minutes(10)
    /// An epoch that the new one has to exceed, for a store whose leases were lost.
    package var notBelow: UInt64 = 0
    /// Called once, from any thread, if another process holds the lease for longer than ``LeaseWait/notice``.
    package var onWait: (@Sendable (LeaseWait) -> Void)?

    package init(guards: [StoreKey] = []) {
        self.guards = guards
    }

    /// The time between two polls of a waiting process, within which it acquires a lease that is released.
    var pollInterval: TimeAmount { min(timeToLive.third, .seconds(1)) }
}

/// A wait for a lease that another process holds.
package struct LeaseWait: Equatable, Sendable, CustomStringConvertible {
    /// The time after which a wait is reported.
    static let notice = TimeAmount.seconds(1)

    /// The folder of the lease.
    package let place: String
    /// The holder's host and process as they are in its record, or `nil` if that cannot be read.
    package let holder: String?
    /// The time after which the wait ends without the lease.
    package let limit: TimeAmount

    package init(place: String, holder: String?, limit: TimeAmount) {
        self.place = place
        self.holder = holder
        self.limit = limit
    }

    package var description: String {
        let seconds = (limit.nanoseconds + 999_999_999) / 1_000_000_000
        return "the lease \(place), held by \(holder ?? "another process"), for at most \(seconds) s"
    }
}
