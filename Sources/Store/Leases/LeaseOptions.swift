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

    package init(guards: [StoreKey] = []) {
        self.guards = guards
    }
}
