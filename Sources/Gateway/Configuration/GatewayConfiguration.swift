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
    /// Whether challenges of CAs are answered; otherwise their path is one like any other.
    package var answersChallenges = true
    /// Event loops; nil takes one a core.
    package var loops: Int?
    package var logLevel: Logger.Level
    package var logFormat: LogFormat
    /// How long requests in flight may take to finish after SIGTERM.
    package var shutdownGrace: TimeAmount
    package var timeouts: Timeouts

    /// Deadlines of the edge.
    package struct Timeouts: Sendable, Equatable {
        /// From the TCP connection to the end of its TLS handshake.
        package var tlsHandshake: TimeAmount = .seconds(10)
        /// From the first byte of a request to the end of its head.
        package var header: TimeAmount = .seconds(10)
        /// A client that sends nothing more of its request's body, or takes nothing more of the response.
        package var bodyIdle: TimeAmount = .seconds(30)
        /// A connection kept open between two requests.
        package var keepAliveIdle: TimeAmount = .seconds(60)
        /// From the end of the request to the response's head; a route's `timeout` replaces it.
        package var responseHead: TimeAmount = .seconds(30)
        /// A connection after an upgrade on which nothing moves in either direction.
        package var webSocketIdle: TimeAmount = .seconds(120)

        package init() {}
    }

    /// When the development CA is in use.
    package enum DevelopmentCA: String, Sendable, CaseIterable {
        /// While no certificate is configured by files.
        case auto
        case on
        case off
    }

    /// A certificate chain and its private key, PEM files.
    package struct CertificateFiles: Sendable, Equatable {
        package var cert: String
        package var key: String

        package init(cert: String, key: String) {
            self.cert = cert
            self.key = key
        }
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
        timeouts = Timeouts()
    }
}
