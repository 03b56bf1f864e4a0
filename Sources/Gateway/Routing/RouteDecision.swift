package import Formats
package import NIOCore

/// The destination of the requests of one route, or of a host that agents offer. A class, so that a request holds one
/// reference.
package final class RouteTarget: Sendable {
    /// The host that an attachment has to offer, as it was offered, or `nil` if a route leads here.
    package let host: HostPattern?
    /// The token that the host belongs to; "" if a route leads here.
    package let tokenID: String
    /// The NAME of the token that the agents attach with.
    package let agent: String
    /// The service of a route; for a host that agents offer that of one of its attachments, for logs.
    package let service: String
    /// The timeout of the response's head, or `nil` for the general one.
    package let timeout: TimeAmount?
    /// The name of the route in logs and metrics: the host pattern and the path prefix.
    package let label: String

    package init(
        host: HostPattern? = nil,
        tokenID: String = "",
        agent: String,
        service: String,
        timeout: TimeAmount? = nil,
        label: String
    ) {
        self.host = host
        self.tokenID = tokenID
        self.agent = agent
        self.service = service
        self.timeout = timeout
        self.label = label
    }
}

/// The route that was found for one request.
package struct RouteMatch: Sendable {
    package let target: RouteTarget
    /// The number of bytes at the start of the request target that are not sent to the service.
    let stripped: Int

    /// The request target for the service: the original bytes, without the prefix if the route strips it.
    package func forwarded(_ requestTarget: String) -> String {
        guard stripped > 0 else { return requestTarget }
        let rest = requestTarget.utf8.dropFirst(stripped)
        guard rest.first != UInt8(ascii: "/") else { return String(Substring(rest)) }
        return "/" + Substring(rest)
    }
}

/// The result of routing one request.
package enum RouteDecision: Sendable {
    case match(RouteMatch)
    /// No route and no agent serves this host.
    case unknownHost
    /// The host is known, but no route matches the path.
    case unknownPath
    /// The path is ambiguous and the host has path routes. Answered with 400.
    case badPath
}
