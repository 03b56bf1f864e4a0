package import NIOCore
package import Store

/// A barrier by way of the heartbeats in the store: `published` counts the announcements of a replica, `seen` holds the
/// count of each peer that it has acknowledged.
///
/// A replica learns of an announcement when ``ReplicaWatch`` polls: once a second, twice a second while it is urgent. Its
/// acknowledgement is in its next heartbeat, at most 50 ms later, which the announcing replica polls every 150 ms. An
/// announcement thus takes a second as a rule, and half a second while other challenges are pending. A waiting replica
/// reads one heartbeat for each peer and poll: with 7 peers 50 small files a second. Nothing is read unless a call waits.
package final class HeartbeatBarrier: StoreChangeBarrier {
    private static let pollInterval = TimeAmount.milliseconds(150)
    /// The age of a heartbeat above which its replica is not waited for. A heartbeat is due every second, so the replica
    /// has probably died, and a lease that it held has passed to another one.
    private static let heartbeatAgeLimit = TimeAmount.milliseconds(2_500)

    private let store: any Store
    private let presence: ReplicaPresence
    private let watch: ReplicaWatch

    package init(store: any Store, presence: ReplicaPresence, watch: ReplicaWatch) {
        self.store = store
        self.presence = presence
        self.watch = watch
    }

    // MARK: Announcing

    package func announceAndWait(within limit: TimeAmount) async -> [Incarnation] {
        let deadline = NIODeadline.now() + limit
        // A process that has just started does not know its peers yet.
        while !watch.hasPolled, await sleep(until: deadline) {}
        if watch.hasPolled, peers.isEmpty { return [] }
        guard let number = await announce(until: deadline) else { return peers }
        return await wait(for: number, until: deadline)
    }

    /// Writes the announcement into the heartbeat of this process.
    ///
    /// - Returns: The number of the announcement, or `nil` if the volume accepted no heartbeat before the deadline, so
    ///   that no peer can learn of it.
    private func announce(until deadline: NIODeadline) async -> UInt64? {
        while true {
            if let number = presence.announce() {
                // A failed flush needs no handling: no peer acknowledges the number then.
                try? await presence.flush(within: deadline - .now())
                return number
            }
            guard await sleep(until: deadline) else { return nil }
        }
    }

    private func wait(for number: UInt64, until deadline: NIODeadline) async -> [Incarnation] {
        await withTaskGroup(of: Incarnation?.self) { group in
            for peer in peers {
                group.addTask {
                    while await self.isPending(peer, number, until: deadline) {
                        guard await self.sleep(until: deadline) else { return peer }
                    }
                    return nil
                }
            }
            return await group.reduce(into: []) { late, peer in if let peer { late.append(peer) } }.sorted()
        }
    }

    /// Whether this peer is live and has not acknowledged the announcement with this number.
    private func isPending(_ peer: Incarnation, _ number: UInt64, until deadline: NIODeadline) async -> Bool {
        let observation = await store.observe(peer, within: deadline - .now())
        // Another replica has archived it.
        if observation.problem?.code == .notFound { return false }
        guard let last = observation.lastHeartbeat else { return true }
        var status = ReplicaStatus(incarnation: peer)
        status.heartbeat = last.heartbeat
        status.movedAt = last.movedAt
        guard Self.isReachable(status, now: .now()) else { return false }
        // The present incarnation, since this process gets another one if its peers took it for dead.
        let own = presence.incarnation
        return !last.heartbeat.seen.contains { $0.replica == own && $0.published >= number }
    }

    /// Sleeps for one poll interval, or until the deadline.
    ///
    /// - Returns: `false` if the deadline has passed or the task was cancelled.
    private func sleep(until deadline: NIODeadline) async -> Bool {
        let left = min(Self.pollInterval, deadline - .now())
        guard left > .zero else { return false }
        return (try? await Task.sleep(for: .nanoseconds(left.nanoseconds))) != nil
    }

    // MARK: Acknowledging

    package func announcedChanges() -> [Heartbeat.Seen] {
        let now = NIODeadline.now()
        let own = presence.incarnation
        let live = watch.replicas.filter { $0.incarnation != own && ReplicaWatch.isLive($0, now: now) }
        let marks = live.compactMap { replica in
            replica.heartbeat.map { Heartbeat.Seen(replica: replica.incarnation, published: $0.published) }
        }
        return Array(marks.prefix(Heartbeat.seenLimit))
    }

    package func acknowledge(_ changes: [Heartbeat.Seen]) { presence.update { $0.seen = changes } }

    package func onAnnouncement(_ body: @escaping @Sendable () -> Void) { watch.onAnnouncement(body) }

    package func setUrgent(_ isUrgent: Bool) { watch.setUrgent(isUrgent) }

    /// The other replicas whose heartbeat is recent enough to wait for them.
    private var peers: [Incarnation] {
        let now = NIODeadline.now()
        let own = presence.incarnation
        return watch.replicas.filter { $0.incarnation != own && Self.isReachable($0, now: now) }.map(\.incarnation)
    }

    private static func isReachable(_ replica: ReplicaStatus, now: NIODeadline) -> Bool {
        guard ReplicaWatch.isLive(replica, now: now), let moved = replica.movedAt else { return false }
        return now - moved < heartbeatAgeLimit
    }
}
