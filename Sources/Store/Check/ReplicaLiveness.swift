package import NIOCore

/// The liveness of a replica as a command sees it, which cannot watch for minutes: heartbeats are read twice, and a
/// replica whose heartbeat moved in between is live.
package struct ReplicaLiveness: Equatable, Sendable {
    /// The time between the two reads: three heartbeats.
    package static let interval = TimeAmount.seconds(3)

    package let replica: Incarnation
    /// The second read.
    package let heartbeat: Reading
    /// Whether the replica is live, as far as is known: one whose heartbeat cannot be read at the moment may be.
    package let isLive: Bool

    /// The heartbeat of a replica, or the reason why it cannot be read.
    package typealias Reading = Result<Heartbeat, StoreError>

    /// Compares two reads. Returns one element per replica of the second read, in the order of their names.
    package static func compare(
        _ before: [Incarnation: Reading],
        _ after: [Incarnation: Reading]
    ) -> [ReplicaLiveness] {
        after.sorted { $0.key < $1.key }.map { replica, heartbeat in
            let isLive =
                switch heartbeat {
                // A replica that was missing in the first read has started since.
                case .success(let now): now.sequence > (try? before[replica]?.get().sequence) ?? 0 && now.state != .left
                case .failure(let error): error.isTransient
                }
            return ReplicaLiveness(replica: replica, heartbeat: heartbeat, isLive: isLive)
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

    /// Reads the heartbeats of all replicas.
    package func heartbeats() throws(StoreError) -> [Incarnation: ReplicaLiveness.Reading] {
        var found: [Incarnation: ReplicaLiveness.Reading] = [:]
        for replica in try replicaFolders() {
            do throws(StoreError) {
                found[replica] = .success(try heartbeat(of: replica))
            } catch {
                found[replica] = .failure(error)
            }
        }
        return found
    }
}
