package import NIOCore

/// Where requests of one route go. One object a route, so that a request carries a reference.
package final class RouteTarget: Sendable {
    /// The NAME of the token that the agents attach with.
    package let agent: String
    package let service: String
    /// Until the response's head; nil takes the general one.
    package let timeout: TimeAmount?
    /// Names the route in logs and metrics: host pattern and prefix.
    package let label: String

    package init(agent: String, service: String, timeout: TimeAmount? = nil, label: String) {
        self.agent = agent
        self.service = service
        self.timeout = timeout
        self.label = label
    }
}

/// A route that was found for one request.
package struct RouteMatch: Sendable {
    package let target: RouteTarget
    /// Bytes at the start of the request target that the service does not see.
    let stripped: Int

    /// The request target for the service: the original bytes, without the prefix where the route says so.
    package func forwarded(_ requestTarget: String) -> String {
        guard stripped > 0 else { return requestTarget }
        let rest = requestTarget.utf8.dropFirst(stripped)
        guard rest.first != UInt8(ascii: "/") else { return String(Substring(rest)) }
        return "/" + Substring(rest)
    }
}

/// What routing says of a request.
package enum RouteDecision: Sendable {
    case match(RouteMatch)
    /// No route and no agent has this host.
    case unknownHost
    /// The host is known, but none of its paths is this one.
    case unknownPath
    /// The path has more than one reading on a host where that matters: 400.
    case badPath
}
