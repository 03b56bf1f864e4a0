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
    /// Credentials and the development CA live here. It may not exist yet.
    package var dataDirectory: String
    package var routes: [Route]
    /// Readable when the configuration was loaded. Empty: the development CA issues one.
    package var certificates: [CertificateFiles]
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

    /// A certificate chain and its private key, PEM files.
    package struct CertificateFiles: Sendable, Equatable {
        package var cert: String
        package var key: String

        package init(cert: String, key: String) {
            self.cert = cert
            self.key = key
        }
    }

    /// All defaults, with the data folder chosen from the environment.
    package init(environment: [String: String] = [:]) {
        httpListen = ListenAddress(host: "0.0.0.0", port: 8080)
        httpsListen = ListenAddress(host: "0.0.0.0", port: 8443)
        dtlsListen = httpsListen
        opsListen = ListenAddress(host: "0.0.0.0", port: 9090)
        dataDirectory = DataDirectory.standard(environment: environment)
        routes = []
        certificates = []
        logLevel = .info
        logFormat = .auto
        shutdownGrace = .seconds(30)
        timeouts = Timeouts()
    }
}
