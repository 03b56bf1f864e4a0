package import Logging
package import NIOCore
package import Observability
package import Settings

/// The settings of an agent. Loaded by ``load(file:environment:flags:)`` and passed down; see ``rereading()``.
///
/// It contains a secret, which no description, dump or reflection shows: see ``AgentToken``.
package struct AgentConfiguration: Sendable, Equatable {
    /// The addresses of the gateways, at least one. The agent keeps a tunnel to each.
    package var gateways: [HostPort]
    package var token: AgentToken
    /// The file that contains the token or the join string, or `nil` if no file does.
    package var identityFile: IdentityFile?
    /// The name under which the agent attaches; by default the pod's or machine's name.
    package var name: String
    /// The services that the agent offers, at least one, with unique names.
    package var services: [ServiceDefinition]
    /// The hosts (`app.example.com`, `*.example.com`) that the agent requests from the gateway.
    package var hosts: [String]
    package var trust: AgentTrust
    /// The name that replaces the gateway's host in SNI and in the verification of its certificate, or `nil`.
    package var serverName: String?
    /// The address that serves `/healthz`, `/readyz` and `/metrics`, or `nil` if there is no such listener.
    package var opsListen: ListenAddress?
    /// Whether `opsListen` was set explicitly. The default address may be in use by another agent on the machine, which
    /// must not stop this one; an explicit address must be available.
    package var opsListenIsExplicit: Bool
    /// The number of concurrent requests. Further ones are answered BUSY.
    package var maxRequests: Int
    /// The hosts other than loopback that services may have as targets.
    package var targetHosts: [String]
    package var logLevel: Logger.Level
    package var logFormat: LogFormat
    /// The time that requests in flight may take to finish after SIGTERM.
    package var shutdownGrace: TimeAmount

    /// Creates a configuration with the required settings, and the defaults of all others.
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

/// A local service to which the agent forwards requests.
package struct ServiceDefinition: Sendable, Equatable {
    package var name: String
    package var target: HostPort

    package init(name: String, target: HostPort) {
        self.name = name
        self.target = target
    }
}

/// The trust anchor for the gateway's certificate. Verification cannot be disabled.
package enum AgentTrust: Sendable, Equatable {
    /// The roots of the operating system.
    case system
    /// A file of PEM certificates, which was readable when the configuration was loaded.
    case caFile(path: String)
    /// The SHA-256 digest of the certificate or of its public key.
    case pin(sha256: [UInt8])
}
