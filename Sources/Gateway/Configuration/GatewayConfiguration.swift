package import Certificates
package import Cluster
package import Logging
package import NIOCore
package import Observability
package import Settings

/// Everything a gateway replica is told from outside. Immutable; made once by `load` and handed down.
package struct GatewayConfiguration: Sendable, Equatable {
    /// HTTP that redirects to HTTPS.
    package var httpListen: ListenAddress
    package var httpsListen: ListenAddress
    /// Tunnels of agents, UDP. The address and port number of HTTPS unless set.
    package var dtlsListen: ListenAddress
    /// `/healthz`, `/readyz`, `/metrics`.
    package var opsListen: ListenAddress
    /// JSON and verbs for operators, with a bearer token. Never public.
    package var adminListen: ListenAddress
    /// A file with the admin port's bearer token; nil: it is derived from the cluster key.
    package var adminTokenFile: String?
    /// What this replica calls itself, for people.
    package var name: String
    /// What all replicas share.
    package var store: SharedStoreConfiguration
    /// Where agents reach the gateway from outside, as join strings tell them; empty: nobody said.
    package var tunnelAddresses: [HostPort]
    package var routes: [Route]
    /// Readable when the configuration was loaded.
    package var certificates: [CertificateFiles]
    /// Whether the development CA covers names that nothing else does.
    package var developmentCA: DevelopmentCA
    /// Certificates from CAs; nil: ACME is not in use.
    package var acme: ACMEConfiguration?
    /// Event loops; nil takes one a core.
    package var loops: Int?
    package var logLevel: Logger.Level
    package var logFormat: LogFormat
    /// How long requests in flight may take to finish after SIGTERM.
    package var shutdownGrace: TimeAmount
    package var timeouts: EdgeTimeouts

    /// When the development CA is in use.
    package enum DevelopmentCA: String, Sendable, CaseIterable {
        /// While no certificate is configured by files. Also beside ACME: until a CA has issued the first one, and
        /// for names that nobody has asked a CA for, there is something to serve.
        case auto
        case on
        case off
    }

    /// All defaults, with the store's folder and the name chosen from the environment.
    package init(environment: [String: String] = [:]) {
        httpListen = ListenAddress(host: "0.0.0.0", port: 8080)
        httpsListen = ListenAddress(host: "0.0.0.0", port: 8443)
        dtlsListen = httpsListen
        opsListen = ListenAddress(host: "0.0.0.0", port: 9090)
        adminListen = ListenAddress(host: "127.0.0.1", port: 9091)
        name = ProcessName.standard(environment: environment, fallback: "gateway")
        store = SharedStoreConfiguration(path: DataDirectory.standard(environment: environment))
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
