import Certificates
import Cluster
import Files
import Formats
package import Logging
import Settings
import Store
import Threads

extension GatewayConfiguration {
    /// Reads the certificates, keys and tokens that the configuration names as a start does, without changing anything:
    /// a start with files that pass refuses none of them. A store that exists is opened, and has to have a certificate
    /// if nothing else has; where there is none, a start has to be able to create it.
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
        try await requireCertificateSource()
        guard store.driver == .volume else { return }
        let shared: SharedStore
        do throws(StoreError) {
            shared = try await SharedStore.openExisting(store)
        } catch {
            guard store.isUnfounded(error) else { throw error }
            return try await store.requireStartable(isFounding: true)
        }
        defer { shared.close() }
        try await store.requireStartable(isFounding: false)
        guard certificates.isEmpty else { return }
        let settings = servedCertificates(check: TLSIdentities.check)
        try await ServedCertificates.inspect(settings, store: shared.certificates).requireAny()
    }

    /// Logs the files with keys or a token that other users may read, except for secrets that a container runtime
    /// mounts, which usually are readable.
    package func reportReadableSecrets(_ logger: Logger) async {
        var files: [(setting: String, path: String)] = []
        if let path = store.clusterKeyFile { files.append(("cluster_key_file", path)) }
        if let path = adminTokenFile { files.append(("admin_token_file", path)) }
        let mounts = ["/run/secrets/", "/var/run/secrets/"]
        for (setting, path) in files where !mounts.contains(where: { path.hasPrefix($0) }) {
            let mode = try? await withBlockingThread(
                "secrets",
                limit: .seconds(10),
                timeout: GatewayStartError("\(path): its volume does not answer") as any Error,
                refused: GatewayStartError(ThreadLimit.message)
            ) { ConfiguredFile.modeIfOthersMayRead(path) }
            guard let mode else { continue }
            logger.warning(
                "secret file readable by other users",
                metadata: [
                    "setting": "\(setting)", "path": "\(path)", "mode": "\(mode)",
                    "remedy": "chmod 600 \(shellWord(path))",
                ]
            )
        }
    }

    /// The remedy for an admin port that listens on all addresses: its requests are not encrypted, so others on the
    /// network can read the token. `nil` if it does not.
    private var openAdminRemedy: String? {
        guard ["0.0.0.0", "::"].contains(adminListen.host) else { return nil }
        let local = ListenAddress(host: adminListen.host == "::" ? "::1" : "127.0.0.1", port: adminListen.port)
        return "set admin_listen to \(local), or let a firewall admit operators only"
    }

    /// The warning about an admin port that other machines reach, or `nil` if they do not.
    package var openAdminWarning: String? {
        openAdminRemedy.map { remedy in
            "admin_listen: \(adminListen) is reachable from other machines, and the token is sent in plain text; "
                + remedy
        }
    }

    /// Logs an admin port that other machines reach.
    package func reportOpenAdmin(_ logger: Logger) {
        guard let remedy = openAdminRemedy else { return }
        logger.warning(
            "admin port reachable from other machines",
            metadata: ["setting": "admin_listen", "address": "\(adminListen)", "remedy": "\(remedy)"]
        )
    }

    /// Verifies that a start that founds a cluster has a certificate to serve, before it founds one: in an empty store
    /// there is none.
    func requireCertificateSource() async throws {
        guard certificates.isEmpty, !usesDevelopmentCA else { return }
        if store.driver == .volume {
            do throws(StoreError) {
                return try await SharedStore.openExisting(store).close()
            } catch {
                guard store.isUnfounded(error) else { throw error }
            }
        }
        throw ServedCertificates.nothing
    }
}
