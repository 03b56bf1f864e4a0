import Tunnel

// The JSON form of the control messages. Decoding is written out because absent fields have defaults, which synthesised
// conformances do not provide. Lists and strings from the network have no bound other than the 64 KiB of the whole
// message.

extension Hello {
    package init(from decoder: any Decoder) throws {
        let fields = try decoder.container(keyedBy: CodingKeys.self)
        self.init(
            tokenID: try fields.decode(String.self, forKey: .tokenID),
            secret: try fields.decode(String.self, forKey: .secret),
            name: try fields.decode(String.self, forKey: .name),
            run: try fields.decode(RunID.self, forKey: .run),
            attach: try fields.decodeIfPresent(UInt64.self, forKey: .attach) ?? 0,
            services: try fields.decodeIfPresent([String].self, forKey: .services) ?? [],
            hosts: try fields.decodeIfPresent([String].self, forKey: .hosts) ?? [],
            maxRequests: try fields.decodeIfPresent(Int.self, forKey: .maxRequests) ?? 1_000,
            avoid: try fields.decodeIfPresent([String].self, forKey: .avoid) ?? []
        )
    }
}

extension Welcome {
    package init(from decoder: any Decoder) throws {
        let fields = try decoder.container(keyedBy: CodingKeys.self)
        self.init(
            incarnation: try fields.decode(String.self, forKey: .incarnation),
            direct: try fields.decodeIfPresent([String].self, forKey: .direct) ?? [],
            keepAliveMilliseconds: try fields.decodeIfPresent(UInt64.self, forKey: .keepAliveMilliseconds) ?? 0,
            maxRequests: try fields.decodeIfPresent(Int.self, forKey: .maxRequests) ?? 0
        )
    }
}

extension Elsewhere {
    package init(from decoder: any Decoder) throws {
        let fields = try decoder.container(keyedBy: CodingKeys.self)
        self.init(
            retryAfterMilliseconds: try fields.decodeIfPresent(UInt64.self, forKey: .retryAfterMilliseconds) ?? 0
        )
    }
}

extension Services {
    package init(from decoder: any Decoder) throws {
        let fields = try decoder.container(keyedBy: CodingKeys.self)
        self.init(
            services: try fields.decodeIfPresent([String].self, forKey: .services) ?? [],
            hosts: try fields.decodeIfPresent([String].self, forKey: .hosts) ?? []
        )
    }
}

extension Hosts {
    private enum CodingKeys: String, CodingKey {
        case unserved
    }

    package init(from decoder: any Decoder) throws {
        let fields = try decoder.container(keyedBy: CodingKeys.self)
        self.init(unserved: try fields.decodeIfPresent([String].self, forKey: .unserved) ?? [])
    }
}

extension Goaway {
    package init(from decoder: any Decoder) throws {
        let fields = try decoder.container(keyedBy: CodingKeys.self)
        self.init(
            deadlineMilliseconds: try fields.decodeIfPresent(UInt64.self, forKey: .deadlineMilliseconds) ?? 0,
            spreadMilliseconds: try fields.decodeIfPresent(UInt64.self, forKey: .spreadMilliseconds) ?? 0
        )
    }
}

extension ErrorMessage: Codable {
    enum CodingKeys: String, CodingKey {
        case code, message
        case retryAfterMilliseconds = "retry_after_ms"
    }

    package init(from decoder: any Decoder) throws {
        let fields = try decoder.container(keyedBy: CodingKeys.self)
        self.init(
            code: HopCode(ApplicationErrorCode(rawValue: try fields.decode(UInt64.self, forKey: .code))),
            message: try fields.decodeIfPresent(String.self, forKey: .message) ?? "",
            retryAfterMilliseconds: try fields.decodeIfPresent(UInt64.self, forKey: .retryAfterMilliseconds) ?? 0
        )
    }

    package func encode(to encoder: any Encoder) throws {
        var fields = encoder.container(keyedBy: CodingKeys.self)
        try fields.encode(code.wireCode.rawValue, forKey: .code)
        try fields.encode(message, forKey: .message)
        if retryAfterMilliseconds > 0 { try fields.encode(retryAfterMilliseconds, forKey: .retryAfterMilliseconds) }
    }
}

extension ControlMessage: Codable {
    private enum TypeKey: String, CodingKey {
        case type
    }

    /// The values of the `type` field.
    private enum Word: String {
        case hello = "HELLO"
        case welcome = "WELCOME"
        case elsewhere = "ELSEWHERE"
        case services = "SERVICES"
        case hosts = "HOSTS"
        case goaway = "GOAWAY"
        case error = "ERROR"
        case peer = "PEER"
    }

    /// The error of a message whose type this version does not know.
    struct UnknownType: Error {}

    package init(from decoder: any Decoder) throws {
        let type = try decoder.container(keyedBy: TypeKey.self).decode(String.self, forKey: .type)
        self =
            switch Word(rawValue: type) {
            case .hello: .hello(try Hello(from: decoder))
            case .welcome: .welcome(try Welcome(from: decoder))
            case .elsewhere: .elsewhere(try Elsewhere(from: decoder))
            case .services: .services(try Services(from: decoder))
            case .hosts: .hosts(try Hosts(from: decoder))
            case .goaway: .goaway(try Goaway(from: decoder))
            case .error: .error(try ErrorMessage(from: decoder))
            case .peer: .peer(try PeerMessage(from: decoder))
            case nil: throw UnknownType()
            }
    }

    package func encode(to encoder: any Encoder) throws {
        var container = encoder.container(keyedBy: TypeKey.self)
        let (word, body): (Word, any Encodable) =
            switch self {
            case .hello(let message): (.hello, message)
            case .welcome(let message): (.welcome, message)
            case .elsewhere(let message): (.elsewhere, message)
            case .services(let message): (.services, message)
            case .hosts(let message): (.hosts, message)
            case .goaway(let message): (.goaway, message)
            case .error(let message): (.error, message)
            case .peer(let message): (.peer, message)
            }
        try container.encode(word.rawValue, forKey: .type)
        try body.encode(to: encoder)
    }
}
