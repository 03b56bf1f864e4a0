package import NIOCore
package import Store
import Synchronization

/// Announcements by way of the heartbeats in the store: `published` counts what a replica wrote, `seen` says which count
/// of each peer it has acted on.
///
/// A replica hears of a peer when ``ReplicaWatch`` looks, once a second, and twice while it answers a challenge. The
/// answer is in its next heartbeat, 50 ms later at most, and is looked for every 150 ms. So it takes a second as a rule,
/// half of it while other challenges are pending. Whoever waits reads one heartbeat a peer and look: of 7 peers 50 small
/// files a second, for as long as it waits; nothing is read while nobody does.
package final class StoreAnnouncements: Announcements {
    private static let pause = TimeAmount.milliseconds(150)
    /// A heartbeat comes every second. Who was not heard for so long is not waited for: it died, and a lease that it held
    /// is another's now.
    private static let silence = TimeAmount.milliseconds(2_500)

    private let store: any Store
    private let presence: ReplicaPresence
    private let watch: ReplicaWatch

    package init(store: any Store, presence: ReplicaPresence, watch: ReplicaWatch) {
        self.store = store
        self.presence = presence
        self.watch = watch
    }

    // MARK: Telling

    package func settle(within limit: TimeAmount) async -> [Incarnation] {
        let deadline = NIODeadline.now() + limit
        // A process that has just begun knows nobody yet.
        while !watch.hasLooked, await pause(until: deadline) {}
        if watch.hasLooked, peers.isEmpty { return [] }
        guard let number = await announce(until: deadline) else { return peers }
        return await wait(for: number, until: deadline)
    }

    /// Nil: until then the volume took no heartbeat of ours, and nobody can hear of us.
    private func announce(until deadline: NIODeadline) async -> UInt64? {
        while true {
            if let number = presence.announce() {
                // That it did not work is seen by those who wait: nobody will have seen it.
                try? await presence.flush(within: deadline - .now())
                return number
            }
            guard await pause(until: deadline) else { return nil }
        }
    }

    private func wait(for number: UInt64, until deadline: NIODeadline) async -> [Incarnation] {
        await withTaskGroup(of: Incarnation?.self) { group in
            for peer in peers {
                group.addTask {
                    while await self.isWaited(for: peer, number, until: deadline) {
                        guard await self.pause(until: deadline) else { return peer }
                    }
                    return nil
                }
            }
            return await group.reduce(into: []) { late, peer in if let peer { late.append(peer) } }.sorted()
        }
    }

    /// Whether this replica is live and has not seen that number of ours.
    private func isWaited(for peer: Incarnation, _ number: UInt64, until deadline: NIODeadline) async -> Bool {
        let sight = await store.observe(peer, within: deadline - .now())
        // Somebody put it away.
        if sight.problem?.code == .notFound { return false }
        guard let pulse = sight.lastHeartbeat else { return true }
        var status = ReplicaStatus(incarnation: peer)
        status.heartbeat = pulse.heartbeat
        status.movedAt = pulse.movedAt
        guard Self.isHeard(status, now: .now()) else { return false }
        // Under the name that we have now: it is another one if somebody took us for dead.
        let own = presence.incarnation
        return !pulse.heartbeat.seen.contains { $0.replica == own && $0.published >= number }
    }

    /// False when it is time to give up.
    private func pause(until deadline: NIODeadline) async -> Bool {
        let left = min(Self.pause, deadline - .now())
        guard left > .zero else { return false }
        return (try? await Task.sleep(for: .nanoseconds(left.nanoseconds))) != nil
    }

    // MARK: Hearing

    package func heard() -> [Heartbeat.Seen] {
        let now = NIODeadline.now()
        let own = presence.incarnation
        let live = watch.replicas.filter { $0.incarnation != own && ReplicaWatch.isLive($0, now: now) }
        let marks = live.compactMap { replica in
            replica.heartbeat.map { Heartbeat.Seen(replica: replica.incarnation, published: $0.published) }
        }
        return Array(marks.prefix(Heartbeat.seenLimit))
    }

    package func acted(on heard: [Heartbeat.Seen]) { presence.update { $0.seen = heard } }

    package func onNews(_ body: @escaping @Sendable () -> Void) { watch.onNews(body) }

    package func hurry(_ isHurried: Bool) { watch.hurry(isHurried) }

    /// Those that are heard, without this process.
    private var peers: [Incarnation] {
        let now = NIODeadline.now()
        let own = presence.incarnation
        return watch.replicas.filter { $0.incarnation != own && Self.isHeard($0, now: now) }.map(\.incarnation)
    }

    private static func isHeard(_ replica: ReplicaStatus, now: NIODeadline) -> Bool {
        guard ReplicaWatch.isLive(replica, now: now), let moved = replica.movedAt else { return false }
        return now - moved < silence
    }
}
