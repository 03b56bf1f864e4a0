package import NIOCore
package import Store

/// A barrier between replicas: one announces that it has changed something in the store, the others acknowledge it once
/// they have acted on it.
///
/// A replica that publishes calls ``announceAndWait(within:)``. A replica that observes reads ``announcedChanges()``
/// first, then the store, and calls ``acknowledge(_:)`` last; in this order the acknowledgement is true.
package protocol StoreChangeBarrier: Sendable {
    /// Announces a change that is already in the store, and waits until every live replica has acknowledged it or `limit`
    /// has passed.
    ///
    /// - Returns: The live replicas that have not acknowledged the change.
    func announceAndWait(within limit: TimeAmount) async -> [Incarnation]

    /// The count of announcements of each live replica, as this replica read it last.
    func announcedChanges() -> [Heartbeat.Seen]

    /// Records that this replica has read the store after these announcements and acted on what it found.
    func acknowledge(_ changes: [Heartbeat.Seen])

    /// Registers the one listener that is called, on any thread, when ``announcedChanges()`` has changed.
    func onAnnouncement(_ body: @escaping @Sendable () -> Void)

    /// Sets whether announcements are polled more often, because this replica expects some.
    func setUrgent(_ isUrgent: Bool)
}
