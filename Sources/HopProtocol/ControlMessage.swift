/// What is said on stream 0. JSON, versioned by the ALPN; fields and types that a version does not know are ignored, so
/// every field but those needed to understand a message has a default.
package enum ControlMessage: Equatable, Sendable {
    case hello(Hello)
    case welcome(Welcome)
    case elsewhere(Elsewhere)
    case services(Services)
    case goaway(Goaway)
    case error(ErrorMessage)
}

/// The agent's first message: who it is and what it offers.
package struct Hello: Equatable, Sendable, Codable {
    package var tokenID: String
    package var secret: String
    /// The agent's own name: POD_NAME or host name.
    package var name: String
    package var run: RunID
    /// Counts the attachments within a run.
    package var attach: UInt64
    package var services: [String]
    package var hosts: [String]
    /// Requests at once; the agent answers BUSY beyond.
    package var maxRequests: Int
    /// Incarnations of replicas that it does not want.
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

/// The gateway took the agent: requests may come.
package struct Welcome: Equatable, Sendable, Codable {
    /// Of the replica's process.
    package var incarnation: String
    /// Addresses (`host:port`) that reach this replica itself.
    package var direct: [String]
    /// The keep-alive that the agent shall keep, in milliseconds; 0: its own default.
    package var keepAliveMilliseconds: UInt64
    /// Requests at once that the gateway will send, 0: as many as HELLO allows.
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

/// Instead of WELCOME: dial another replica.
package struct Elsewhere: Equatable, Sendable, Codable {
    package var retryAfterMilliseconds: UInt64

    package init(retryAfterMilliseconds: UInt64 = 0) { self.retryAfterMilliseconds = retryAfterMilliseconds }

    enum CodingKeys: String, CodingKey {
        case retryAfterMilliseconds = "retry_after_ms"
    }
}

/// The agent's offer changed.
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

/// No new requests will come; attach elsewhere at a random moment within `spread`; the tunnel ends after `deadline`.
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

/// Why the sender is about to close the tunnel.
package struct ErrorMessage: Equatable, Sendable, Error {
    package var code: HopCode
    package var message: String
    /// 0: the client's own back-off.
    package var retryAfterMilliseconds: UInt64

    package init(code: HopCode, message: String, retryAfterMilliseconds: UInt64 = 0) {
        self.code = code
        self.message = message
        self.retryAfterMilliseconds = retryAfterMilliseconds
    }
}
