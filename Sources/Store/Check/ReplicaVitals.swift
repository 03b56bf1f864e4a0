package import NIOCore

/// A replica as a command line sees it, which has no minutes to watch: two looks, and whose heartbeat moved between them
/// is alive.
package struct ReplicaVitals: Equatable, Sendable {
    /// How far apart the two looks are: three beats.
    package static let patience = TimeAmount.seconds(3)

    package let replica: Incarnation
    /// Of the second look; nil where there is none that can be read.
    package let heartbeat: Heartbeat?
    package let isLive: Bool

    /// In the order of their names.
    package static func compare(
        _ before: [Incarnation: Heartbeat?],
        _ after: [Incarnation: Heartbeat?]
    ) -> [ReplicaVitals] {
        after.keys.sorted().map { replica in
            let now = after[replica] ?? nil
            // Who was not there a moment ago has begun since, and has beaten.
            let earlier = before[replica]?.map(\.sequence) ?? 0
            let hasMoved = now.map { $0.sequence > earlier && $0.state != .left } ?? false
            return ReplicaVitals(replica: replica, heartbeat: now, isLive: hasMoved)
        }
    }
}

extension Volume {
    /// The newest heartbeat of a replica.
    func heartbeat(of replica: Incarnation) throws(StoreError) -> Heartbeat {
        let path = "\(Self.replicas)/\(replica)/hb"
        let bytes = try readFile(path, limit: Heartbeat.fileSize)
        guard let found = Heartbeat.newest(in: bytes)?.heartbeat else {
            throw corrupt(path, "has no heartbeat that can be read")
        }
        guard found.incarnation == replica else {
            throw corrupt(path, "is the heartbeat of another replica, \(found.incarnation)")
        }
        return found
    }

    /// One look at all replicas; nil for those whose heartbeat cannot be read.
    package func heartbeats() throws(StoreError) -> [Incarnation: Heartbeat?] {
        var found: [Incarnation: Heartbeat?] = [:]
        for replica in try replicaFolders() {
            do throws(StoreError) {
                found[replica] = .some(try heartbeat(of: replica))
            } catch {
                guard !error.isTransient else { throw error }
                found[replica] = .some(nil)
            }
        }
        return found
    }
}
