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
    /// The index after the last change, locked for the time of a copy.
    private let current = Mutex(SessionIndex())
    private let specificity: @Sendable (_ tokenID: String, _ host: HostPattern) -> Int?
    private let onHosts: @Sendable ([HostPattern]) -> Void

    /// - Parameters:
    ///   - specificity: Returns how specifically a token allows a host at the moment, or `nil` if it does not.
    ///   - onHosts: Called with the hosts that attachments of other replicas offer now, on a thread of the store.
    package init(
        specificity: @escaping @Sendable (_ tokenID: String, _ host: HostPattern) -> Int?,
        onHosts: @escaping @Sendable ([HostPattern]) -> Void = { _ in }
    ) {
        self.specificity = specificity
        self.onHosts = onHosts
    }

    /// The attachments of the other replicas.
    package var index: SessionIndex { current.withLock { $0 } }

    /// The number of attachments, and of rows that could not be read since the start.
    package var counts: (rows: Int, refused: UInt64) { directory.withLock { ($0.count, $0.refused) } }

    /// Applies changes of a replica's rows.
    package func apply(_ changes: RowChanges, of replica: Incarnation) {
        change { $0.apply(changes, of: replica, upstream: self, specificity) }
    }

    /// Removes the rows of a replica that has left or died.
    package func remove(_ replica: Incarnation) { change { $0.remove(replica) } }

    /// Decides again which hosts the attachments of these tokens may serve, because their credentials have changed.
    package func update(tokens: some Sequence<String>) { change { $0.update(tokens: tokens, specificity) } }

    private func change(_ body: (inout SessionDirectory) -> Void) {
        let hosts = directory.withLock { directory in
            body(&directory)
            let index = directory.index
            current.withLock { $0 = index }
            return directory.removeNewHosts()
        }
        if !hosts.isEmpty { onHosts(hosts) }
    }
}
