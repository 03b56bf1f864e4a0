import Cluster
import Gateway
import Store

/// The store of a command.
enum CommandStore {
    /// Opens the store and names it on standard error, because a command and the gateway may have different
    /// configurations. The caller closes it.
    ///
    /// - Parameter isFounding: Whether an empty folder that the operator has named becomes a new cluster.
    static func open(
        _ configuration: GatewayConfiguration,
        isFounding: Bool = false
    ) async throws -> (shared: SharedStore, store: any Store) {
        let shared =
            try await isFounding
            ? SharedStore.openForCommand(configuration.store) : SharedStore.openExisting(configuration.store)
        let (id, path) = (shared.cluster.id, configuration.store.path)
        Terminal.info(shared.isFounder ? "Founded cluster \(id) in \(path)." : "Store \(path), cluster \(id).")
        return (shared, shared.store)
    }
}
