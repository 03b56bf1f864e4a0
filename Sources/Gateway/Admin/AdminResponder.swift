package import Formats
package import NIOCore
import NIOHTTP1
package import Observability
import Store

/// The data and operations that the admin port gives access to. All are called on the admin port's event loop, read
/// memory only, and answer with a bounded document.
package struct AdminSources: Sendable {
    package var status: @Sendable () -> [String: JSONValue]
    package var replicas: @Sendable () -> [String: JSONValue]
    /// The page of the attachments after a cursor, or `nil` if the cursor is none.
    package var agents: @Sendable (_ after: String?) -> [String: JSONValue]?
    /// The page of the certificates after a cursor, or `nil` if the cursor is none.
    package var certificates: @Sendable (_ after: String?) -> [String: JSONValue]?
    /// Requests a new certificate for a name. Returns `nil` if no certificate from a CA is configured for the name.
    package var renew: @Sendable (_ name: String) -> [String: JSONValue]?
    /// The state of such a request, or `nil` if the number is unknown.
    package var renewal: @Sendable (_ ticket: UInt64) -> [String: JSONValue]?
    /// Starts the drain. Has no effect if it has begun.
    package var drain: @Sendable () -> Void

    package init(
        status: @escaping @Sendable () -> [String: JSONValue],
        replicas: @escaping @Sendable () -> [String: JSONValue],
        agents: @escaping @Sendable (_ after: String?) -> [String: JSONValue]?,
        certificates: @escaping @Sendable (_ after: String?) -> [String: JSONValue]?,
        renew: @escaping @Sendable (String) -> [String: JSONValue]? = { _ in nil },
        renewal: @escaping @Sendable (UInt64) -> [String: JSONValue]? = { _ in nil },
        drain: @escaping @Sendable () -> Void
    ) {
        self.status = status
        self.replicas = replicas
        self.agents = agents
        self.certificates = certificates
        self.renew = renew
        self.renewal = renewal
        self.drain = drain
    }
}

/// The HTTP resources of the admin port. A request without a token receives 401 for every path, so that it does not
/// reveal which resources exist.
package struct AdminResponder: Sendable {
    /// The maximum size of a request's body in bytes.
    package static let bodyLimit = 64 * 1024

    private let access: AdminAccess
    private let sources: AdminSources
    private let now: @Sendable () -> NIODeadline

    package init(
        access: AdminAccess,
        sources: AdminSources,
        now: @escaping @Sendable () -> NIODeadline = { .now() }
    ) {
        self.access = access
        self.sources = sources
        self.now = now
    }

    package func answer(_ request: ResponderRequest) -> ResponderAnswer {
        switch access.check(request, now: now()) {
        case .granted: resource(request)
        case .missing: Self.unauthorized("a token is required: Authorization: Bearer TOKEN")
        case .wrong: Self.unauthorized("the token is wrong")
        case .limited(let wait): Self.limited(wait)
        }
    }

    private func resource(_ request: ResponderRequest) -> ResponderAnswer {
        switch request.path {
        case "/v1/status": Self.read(request, sources.status)
        case "/v1/replicas": Self.read(request, sources.replicas)
        case "/v1/agents": Self.page(request, sources.agents)
        case "/v1/certificates": Self.page(request, sources.certificates)
        case "/v1/drain": drain(request)
        case let path where path.hasPrefix(Self.renewals):
            renewals(request, String(path.dropFirst(Self.renewals.count)))
        default: Self.unknown
        }
    }

    private func drain(_ request: ResponderRequest) -> ResponderAnswer {
        guard request.method == .POST else { return Self.notAllowed("POST") }
        sources.drain()
        return Self.json(.accepted, ["stage": .string("draining")])
    }

    private static let renewals = "/v1/renewals/"

    /// Handles `POST` with a name, which requests a new certificate and returns a ticket, and `GET` with a ticket,
    /// which returns the state of that request.
    private func renewals(_ request: ResponderRequest, _ item: String) -> ResponderAnswer {
        switch request.method {
        case .POST:
            sources.renew(item).map { Self.json(.accepted, $0) }
                ?? Self.error(
                    .notFound,
                    "no certificate from a CA is configured for \(item.prefix(260)); see acme.names"
                )
        default: Self.read(request) { UInt64(item).flatMap { sources.renewal($0) } }
        }
    }

    private static func read(_ request: ResponderRequest, _ body: () -> [String: JSONValue]?) -> ResponderAnswer {
        guard isRead(request) else { return notAllowed("GET, HEAD") }
        return body().map { json(.ok, $0) } ?? unknown
    }

    private static func isRead(_ request: ResponderRequest) -> Bool {
        request.method == .GET || request.method == .HEAD
    }

    /// Handles a list, whose pages are chosen by `?after=CURSOR`.
    private static func page(_ request: ResponderRequest, _ body: (String?) -> [String: JSONValue]?) -> ResponderAnswer
    {
        guard isRead(request) else { return notAllowed("GET, HEAD") }
        let prefix = "after="
        guard request.query.isEmpty || request.query.hasPrefix(prefix),
            let page = body(request.query.isEmpty ? nil : String(request.query.dropFirst(prefix.count)))
        else { return error(.badRequest, "the only parameter is after=NEXT, with the next of the page before") }
        return json(.ok, page)
    }

    private static var unknown: ResponderAnswer { error(.notFound, "no such resource") }

    private static func json(
        _ status: HTTPResponseStatus,
        _ fields: [String: JSONValue],
        _ more: [(name: String, value: String)] = []
    ) -> ResponderAnswer {
        var body = ByteBuffer(bytes: fields.json)
        body.writeInteger(UInt8(ascii: "\n"))
        return ResponderAnswer(status, type: "application/json", fields: more, body: body)
    }

    private static func error(
        _ status: HTTPResponseStatus,
        _ reason: String,
        _ more: [(name: String, value: String)] = []
    ) -> ResponderAnswer {
        json(status, ["error": .string(reason)], more)
    }

    private static func notAllowed(_ methods: String) -> ResponderAnswer {
        error(.methodNotAllowed, "\(methods) only", [("allow", methods)])
    }

    private static func unauthorized(_ reason: String) -> ResponderAnswer {
        error(.unauthorized, reason, [("www-authenticate", #"Bearer realm="hopgate""#)])
    }

    private static func limited(_ wait: TimeAmount) -> ResponderAnswer {
        let seconds = max(1, (wait.nanoseconds + 999_999_999) / 1_000_000_000)
        return error(.tooManyRequests, "too many wrong tokens from this address", [("retry-after", "\(seconds)")])
    }
}
