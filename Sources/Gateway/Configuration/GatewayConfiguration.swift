package import Certificates
package import Cluster
package import Logging
package import NIOCore
package import Observability
package import Settings

/// The configuration of a gateway replica. Immutable; created once by ``load(file:environment:flags:)`` and passed on.
package struct GatewayConfiguration: Sendable, Equatable {
    /// The listener for HTTP, which redirects to HTTPS.
    package var httpListen: ListenAddress
    package var httpsListen: ListenAddress
    /// The UDP listener for the tunnels of agents. The address and port number of HTTPS by default.
    package var dtlsListen: ListenAddress
    /// The UDP listener for the sessions of other replicas.
    package var meshListen: ListenAddress
    /// Whether ``meshListen`` was configured. Otherwise another port is used if that one is taken.
    package var isMeshListenExplicit = false
    /// The address at which other replicas reach this one, or `nil` to derive it from the machine.
    package var meshAdvertise: HostPort?
    /// The listener for `/healthz`, `/readyz` and `/metrics`.
    package var opsListen: ListenAddress
    /// The listener for operators: JSON, with a bearer token. Must not be reachable by the public.
    package var adminListen: ListenAddress
    /// A file with the bearer token of the admin port, or `nil` if it is derived from the cluster key.
    package var adminTokenFile: String?
    /// The name of this replica in logs and reports.
    package var name: String
    /// The store that all replicas share.
    package var store: SharedStoreConfiguration
    /// The public addresses of the tunnel listener, which join strings contain. Empty if not configured.
    package var tunnelAddresses: [HostPort]
    package var routes: [Route]
    /// The certificate files, readable when the configuration was loaded.
    package var certificates: [CertificateFiles]
    /// Whether the development CA issues a certificate for names that no other certificate covers.
    package var developmentCA: DevelopmentCA
    /// The configuration of certificates from CAs, or `nil` if ACME is not used.
    package var acme: ACMEConfiguration?
    /// The number of event loops, or `nil` for one per core.
    package var loops: Int?
    package var logLevel: Logger.Level
    package var logFormat: LogFormat
    /// The time that requests in flight have to finish after SIGTERM.
    package var shutdownGrace: TimeAmount
    package var timeouts: EdgeTimeouts

    /// The conditions under which the development CA is used.
    package enum DevelopmentCA: String, Sendable, CaseIterable {
        /// The development CA is used unless certificate files are configured. With ACME too, so that there is a
        /// certificate until the CA has issued one, and for names that are not ordered from a CA.
        case auto
        case on
        case off
    }

    /// Creates the default configuration. The store's folder and the name depend on the environment.
    package init(environment: [String: String] = [:]) {
        httpListen = ListenAddress(host: "0.0.0.0", port: 8080)
        httpsListen = ListenAddress(host: "0.0.0.0", port: 8443)
        dtlsListen = httpsListen
        meshListen = ListenAddress(host: "0.0.0.0", port: 7443)
        opsListen = ListenAddress(host: "0.0.0.0", port: 9090)
        adminListen = ListenAddress(host: "127.0.0.1", port: 9091)
        name = ProcessName.standard(environment: environment, fallback: "gateway")
        store = SharedStoreConfiguration(path: DataDirectory.standard(environment: environment))
        store.isPathExplicit = false
        tunnelAddresses = []
        routes = []
        certificates = []
        developmentCA = .auto
        logLevel = .info
        logFormat = .auto
        shutdownGrace = .seconds(30)
        timeouts = EdgeTimeouts()
    }
}
