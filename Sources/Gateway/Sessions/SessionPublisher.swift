import Cluster
import HashTreeCollections
import NIOCore
import Store
import Threads

/// Keeps this replica's rows in the store equal to its attachments, for the directories of the other replicas.
///
/// It compares what it has published with what is attached, so nothing is lost while the store accepts no rows: they
/// follow when it does. A comparison costs what has changed, however many attachments there are.
struct SessionPublisher {
    /// The time until the next attempt after the store has refused rows.
    private static let pause = Duration.seconds(1)

    let registry: AgentRegistry
    let presence: ReplicaPresence

    /// Publishes until the task is cancelled.
    func run() async {
        var published: TreeSet<SessionRow> = []
        while !Task.isCancelled {
            registry.changed.clear()
            let current = registry.allRows
            if publish(current, after: &published) {
                await registry.changed.wait()
            } else {
                try? await Task.sleep(for: Self.pause)
            }
        }
    }

    /// Returns whether all changes were accepted.
    private func publish(_ current: TreeSet<SessionRow>, after published: inout TreeSet<SessionRow>) -> Bool {
        var gone = Dictionary(published.subtracting(current).map { ($0.info.id, $0) }) { first, _ in first }
        do throws(StoreError) {
            for row in current.subtracting(published) {
                let record = SessionRecord(row.info, services: row.services, hosts: row.claims.map(\.host))
                try presence.put(row: SessionRecord.key(row.info.id), record.value)
                if let replaced = gone.removeValue(forKey: row.info.id) { published.remove(replaced) }
                published.insert(row)
            }
            for (id, row) in gone {
                try presence.remove(row: SessionRecord.key(id))
                published.remove(row)
            }
            // Shares its storage with what is attached, so that the next comparison costs what has changed.
            published = current
            return true
        } catch {
            return false
        }
    }
}
