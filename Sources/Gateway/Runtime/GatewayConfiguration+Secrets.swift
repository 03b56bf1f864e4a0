import Certificates
import Cluster
import Store
import Threads

extension GatewayConfiguration {
    /// Reads the certificates, keys and tokens that the configuration names as a start does, without changing anything:
    /// a start with files that pass refuses none of them. A store that exists is compared with the cluster's key and id.
    ///
    /// - Throws: The first problem.
    package func requireUsableSecrets() async throws {
        let (certificates, adminTokenFile) = (certificates, adminTokenFile)
        try await withBlockingThread(
            "secrets",
            limit: .seconds(10),
            timeout: GatewayStartError("a file that the configuration names does not answer; is its volume up?")
                as any Error,
            refused: GatewayStartError(ThreadLimit.message)
        ) {
            if let adminTokenFile { _ = try AdminTokens.read(adminTokenFile) }
            for files in certificates { try files.load().require(TLSIdentities.check) }
        }
        _ = try await store.mountedKeys()
        guard store.driver == .volume else { return }
        do throws(StoreError) {
            try await SharedStore.openExisting(store).close()
        } catch {
            // Other problems are those of the volume, not of the configuration; "hopgate store check" shows them.
            if error.code == .foreign { throw error }
        }
    }
}
