import Certificates
import Cluster
import Gateway
import Store

/// The configuration and the opened store of a command.
struct CommandContext {
    let configuration: GatewayConfiguration
    let shared: SharedStore

    var store: any Store { shared.store }
    var storePath: String { configuration.store.path }
    var keyring: ClusterKeyring { shared.keyring }

    var certificates: CertificateSet {
        var certificates = shared.certificates
        certificates.onWait = Terminal.reportWait
        return certificates
    }

    /// Opens the store and names it on standard error, because a command and the gateway may have different
    /// configurations. The caller closes it.
    ///
    /// - Parameter isFounding: Whether an empty folder that the operator has named becomes a new cluster.
    static func open(_ configuration: GatewayConfiguration, isFounding: Bool = false) async throws -> CommandContext {
        let shared: SharedStore
        do throws(StoreError) {
            shared = try await SharedStore.openExisting(configuration.store)
        } catch {
            guard isFounding, configuration.store.isUnfounded(error) else { throw error }
            try AdminClient.requireNoGateway(configuration)
            shared = try await SharedStore.openForCommand(configuration.store)
        }
        let (id, path) = (shared.cluster.id, configuration.store.path)
        Terminal.info(shared.isFounder ? "Founded cluster \(id) in \(path)." : "Store \(path), cluster \(id).")
        return CommandContext(configuration: configuration, shared: shared)
    }

    func close() { shared.close() }
}
