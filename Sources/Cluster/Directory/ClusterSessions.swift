package import Formats
package import Store
import Synchronization

/// The directory of the attachments of all other replicas, shared by the observer of members, which changes it, and by
/// requests, which read it.
///
/// A change of a hundred thousand rows may take a while. Requests read the index before it meanwhile, and never wait.
package final class ClusterSessions: Sendable {
    /// Locked for the time of a change.
    private let directory = Mutex(SessionDirectory())
    private struct State {
        var index = SessionIndex()
        var counts = (rows: 0, refused: UInt64(0))
        var onTransfers: (@Sendable ([SessionIndex.Transfer]) -> Void)?
    }

    /// The state after the last change, locked for the time of a copy.
    private let current = Mutex(State())
    private let replicas = Mutex<[Incarnation: RemoteReplica]>([:])
    private let suspended = Mutex<Set<Incarnation>>([])
    private let specificity: @Sendable (_ tokenID: String, _ host: HostPattern) -> Int?

    /// - Parameter specificity: Returns how specifically a token allows a host at the moment, or `nil` if it does not.
    package init(specificity: @escaping @Sendable (_ tokenID: String, _ host: HostPattern) -> Int?) {
        self.specificity = specificity
    }

    /// Sets a closure that is called with the hosts that have another owner among the attachments of other replicas, on
    /// a thread of the store. Called once, before the first change.
    package func onTransfers(_ body: @escaping @Sendable ([SessionIndex.Transfer]) -> Void) {
        current.withLock { $0.onTransfers = body }
    }

    /// The attachments of the other replicas.
    package var index: SessionIndex { current.withLock { $0.index } }

    /// The number of attachments, and of rows that could not be read since the start.
    package var counts: (rows: Int, refused: UInt64) { current.withLock { $0.counts } }

    /// Applies changes of a replica's rows.
    package func apply(_ changes: RowChanges, of replica: Incarnation) {
        let upstream = self.replica(replica)
        change { $0.apply(changes, of: replica, upstream: upstream, specificity) }
    }

    /// Keeps the rows of silent replicas out of the index, and puts those of the others back.
    package func suspend(_ silent: Set<Incarnation>) {
        let before = suspended.withLock { suspended in
            defer { suspended = silent }
            return suspended
        }
        guard silent != before else { return }
        change { directory in
            for replica in before.subtracting(silent) { directory.resume(replica) }
            for replica in silent.subtracting(before) { directory.suspend(replica) }
        }
    }

    /// Removes the rows of a replica that has left or died.
    package func remove(_ replica: Incarnation) {
        change { $0.remove(replica) }
        // One that can be reached may publish rows again.
        replicas.withLock { if $0[replica]?.session == nil { $0[replica] = nil } }
    }

    /// The way to a replica, the same for all its rows.
    package func replica(_ incarnation: Incarnation) -> RemoteReplica {
        replicas.withLock { replicas in
            if let known = replicas[incarnation] { return known }
            let new = RemoteReplica(incarnation)
            replicas[incarnation] = new
            return new
        }
    }

    /// Decides again which hosts the attachments of these tokens may serve, because their credentials have changed.
    package func update(tokens: some Sequence<String>) { change { $0.update(tokens: tokens, specificity) } }

    private func change(_ body: (inout SessionDirectory) -> Void) {
        let (transfers, onTransfers) = directory.withLock { directory in
            body(&directory)
            var index = directory.index
            let counts = (directory.count, directory.refused)
            let onTransfers = current.withLock { current in
                // The index before may be large. It is released after this lock.
                swap(&current.index, &index)
                current.counts = counts
                return current.onTransfers
            }
            return (directory.removeTransfers(), onTransfers)
        }
        if !transfers.isEmpty { onTransfers?(transfers) }
    }
}
