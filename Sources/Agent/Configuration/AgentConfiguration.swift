package import Logging
package import NIOCore
package import Observability
package import Settings

/// Everything an agent is told from outside. Immutable; made once by `load` and handed down.
///
/// It holds a secret, but no description, dump or reflection of it shows that: see `AgentToken`.
package struct AgentConfiguration: Sendable, Equatable {
    /// In order of preference; at least one.
    package var gateways: [HostPort]
    package var token: AgentToken
    /// What this agent calls itself towards the gateway; the pod's or machine's name unless set.
    package var name: String
    /// At least one, names unique.
    package var services: [ServiceDefinition]
    /// Hosts (`app.example.com`, `*.example.com`) that this agent asks the gateway for.
    package var hosts: [String]
    package var trust: AgentTrust
    /// Replaces the gateway's host in SNI and in the check of its certificate.
    package var serverName: String?
    /// `/healthz`, `/readyz`, `/metrics`; nil: no such listener.
    package var opsListen: ListenAddress?
    /// Someone chose `opsListen`. The default address may be taken by another agent on the machine, which must not stop
    /// this one; one that was asked for must be had.
    package var opsListenIsExplicit: Bool
    /// Requests at a time; further ones are answered BUSY.
    package var maxRequests: Int
    /// Hosts other than loopback that services may have as targets.
    package var targetHosts: [String]
    package var logLevel: Logger.Level
    package var logFormat: LogFormat
    /// How long requests in flight may take to finish after SIGTERM.
    package var shutdownGrace: TimeAmount

    /// The smallest configuration, everything else by default.
    package init(gateways: [HostPort], token: AgentToken, name: String, services: [ServiceDefinition]) {
        self.gateways = gateways
        self.token = token
        self.name = name
        self.services = services
        hosts = []
        trust = .system
        opsListen = Self.defaultOpsListen
        opsListenIsExplicit = false
        maxRequests = 1000
        targetHosts = []
        logLevel = .info
        logFormat = .auto
        shutdownGrace = .seconds(30)
    }

    package static let defaultGatewayPort = 8443
    package static let defaultOpsListen = ListenAddress(host: "127.0.0.1", port: 9095)
}

/// A local service that requests may be sent to.
package struct ServiceDefinition: Sendable, Equatable {
    package var name: String
    package var target: HostPort

    package init(name: String, target: HostPort) {
        self.name = name
        self.target = target
    }
}

/// What the gateway's certificate is verified against. There is no way to skip it.
package enum AgentTrust: Sendable, Equatable {
    /// The roots of the operating system.
    case system
    /// PEM certificates; readable when the configuration was loaded.
    case caFile(path: String)
    /// SHA-256 of the certificate or of its public key.
    case pin(sha256: [UInt8])
}
