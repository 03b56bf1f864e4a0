package import NIOCore

/// The liveness of a replica as a command sees it, which cannot watch for minutes: heartbeats are read twice, and a
/// replica whose heartbeat moved in between is live.
package struct ReplicaLiveness: Equatable, Sendable {
    /// The time between the two reads: three heartbeats.
    package static let interval = TimeAmount.seconds(3)

    package let replica: Incarnation
    /// The heartbeat of the second read, or `nil` if it cannot be read.
    package let heartbeat: Heartbeat?
    package let isLive: Bool

    /// Compares two reads. Returns one element per replica of the second read, in the order of their names.
    package static func compare(
        _ before: [Incarnation: Heartbeat?],
        _ after: [Incarnation: Heartbeat?]
    ) -> [ReplicaLiveness] {
        after.keys.sorted().map { replica in
            let now = after[replica] ?? nil
            // A replica that was missing in the first read has started since.
            let earlier = before[replica]?.map(\.sequence) ?? 0
            let hasMoved = now.map { $0.sequence > earlier && $0.state != .left } ?? false
            return ReplicaLiveness(replica: replica, heartbeat: now, isLive: hasMoved)
        }
    }
}

extension Volume {
    /// Returns the newest heartbeat of a replica.
    func heartbeat(of replica: Incarnation) throws(StoreError) -> Heartbeat {
        let path = "\(Self.replicas)/\(replica)/hb"
        let bytes = try readFile(path, limit: Heartbeat.fileSize)
        guard let found = Heartbeat.newest(in: bytes)?.heartbeat else {
            throw corrupt(path, "has no valid heartbeat")
        }
        guard found.incarnation == replica else {
            throw corrupt(path, "is the heartbeat of another replica, \(found.incarnation)")
        }
        return found
    }

    /// Reads the heartbeats of all replicas; `nil` for those that cannot be read.
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
