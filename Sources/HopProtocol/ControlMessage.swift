/// A message on stream 0. Messages are JSON, versioned by the ALPN. Fields and types that a version does not know are
/// ignored, so every field has a default except those without which a message means nothing.
package enum ControlMessage: Equatable, Sendable {
    case hello(Hello)
    case welcome(Welcome)
    case elsewhere(Elsewhere)
    case services(Services)
    case hosts(Hosts)
    case goaway(Goaway)
    case error(ErrorMessage)
    /// Between two replicas.
    case peer(PeerMessage)
}

/// The agent's first message: its credential, its name and its services.
package struct Hello: Equatable, Sendable, Codable {
    package var tokenID: String
    package var secret: String
    /// The agent's name: POD_NAME or the host name.
    package var name: String
    /// The run of the agent's process.
    package var run: RunID
    /// The number of the attachment within the run.
    package var attach: UInt64
    package var services: [String]
    package var hosts: [String]
    /// The most requests at once. The agent answers BUSY beyond it.
    package var maxRequests: Int
    /// The incarnations of replicas that the agent does not want to attach to.
    package var avoid: [String]

    package init(
        tokenID: String,
        secret: String,
        name: String,
        run: RunID,
        attach: UInt64,
        services: [String],
        hosts: [String] = [],
        maxRequests: Int = 1_000,
        avoid: [String] = []
    ) {
        self.tokenID = tokenID
        self.secret = secret
        self.name = name
        self.run = run
        self.attach = attach
        self.services = services
        self.hosts = hosts
        self.maxRequests = maxRequests
        self.avoid = avoid
    }

    enum CodingKeys: String, CodingKey {
        case tokenID = "token_id"
        case secret, name, run, attach, services, hosts
        case maxRequests = "max_requests"
        case avoid
    }
}

/// The gateway has accepted the agent: requests may come.
package struct Welcome: Equatable, Sendable, Codable {
    /// The incarnation of the replica's process.
    package var incarnation: String
    /// The addresses (`host:port`) that reach this replica itself.
    package var direct: [String]
    /// The interval of the agent's keep-alive in milliseconds, or 0 for the agent's default.
    package var keepAliveMilliseconds: UInt64
    /// The most requests at once that the gateway will send, or 0 for as many as HELLO allows.
    package var maxRequests: Int

    package init(
        incarnation: String,
        direct: [String] = [],
        keepAliveMilliseconds: UInt64 = 0,
        maxRequests: Int = 0
    ) {
        self.incarnation = incarnation
        self.direct = direct
        self.keepAliveMilliseconds = keepAliveMilliseconds
        self.maxRequests = maxRequests
    }

    enum CodingKeys: String, CodingKey {
        case incarnation, direct
        case keepAliveMilliseconds = "keep_alive_ms"
        case maxRequests = "max_requests"
    }
}

/// The answer instead of WELCOME that asks the agent to dial another replica.
package struct Elsewhere: Equatable, Sendable, Codable {
    package var retryAfterMilliseconds: UInt64

    package init(retryAfterMilliseconds: UInt64 = 0) { self.retryAfterMilliseconds = retryAfterMilliseconds }

    enum CodingKeys: String, CodingKey {
        case retryAfterMilliseconds = "retry_after_ms"
    }
}

/// The agent's services and hosts have changed.
package struct Services: Equatable, Sendable, Codable {
    package var services: [String]
    package var hosts: [String]

    package init(services: [String], hosts: [String] = []) {
        self.services = services
        self.hosts = hosts
    }

    enum CodingKeys: String, CodingKey {
        case services, hosts
    }
}

/// The gateway sends no requests for some of the hosts that the agent offers. Replaces the previous message of this
/// type.
package struct Hosts: Equatable, Sendable, Codable {
    /// The hosts that belong to another token or to a configured route.
    package var unserved: [String]

    package init(unserved: [String]) { self.unserved = unserved }
}

/// No new requests will come. The agent attaches elsewhere at a random time within `spread`; the tunnel ends after
/// `deadline`.
package struct Goaway: Equatable, Sendable, Codable {
    package var deadlineMilliseconds: UInt64
    package var spreadMilliseconds: UInt64

    package init(deadlineMilliseconds: UInt64, spreadMilliseconds: UInt64 = 0) {
        self.deadlineMilliseconds = deadlineMilliseconds
        self.spreadMilliseconds = spreadMilliseconds
    }

    enum CodingKeys: String, CodingKey {
        case deadlineMilliseconds = "deadline_ms"
        case spreadMilliseconds = "spread_ms"
    }
}

/// The reason for which the sender is about to close the tunnel.
package struct ErrorMessage: Equatable, Sendable, Error {
    package var code: HopCode
    package var message: String
    /// The time to wait before another attempt in milliseconds, or 0 for the receiver's own back-off.
    package var retryAfterMilliseconds: UInt64

    package init(code: HopCode, message: String, retryAfterMilliseconds: UInt64 = 0) {
        self.code = code
        self.message = message
        self.retryAfterMilliseconds = retryAfterMilliseconds
    }
}

/// The first message of each of two replicas to the other.
package struct PeerMessage: Equatable, Sendable, Codable {
    /// The id of the cluster.
    package var cluster: String
    /// The incarnation of the sender, which its certificate names, too.
    package var incarnation: String

    package init(cluster: String, incarnation: String) {
        self.cluster = cluster
        self.incarnation = incarnation
    }
}
