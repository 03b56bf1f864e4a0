import Cluster
package import Formats
import NIOCore

/// The routes of the configuration. Immutable; a look-up does not allocate.
///
/// The host decides first (an exact match, then the wildcard with the longest suffix), then the longest matching path
/// prefix among the routes of that host.
package struct RouteTable: Sendable {
    private let hosts: HostIndex<HostRoutes>
    /// The host patterns without duplicates, in the order of the configuration. A development certificate covers them.
    package let hostPatterns: [HostPattern]

    /// The routes of one host pattern.
    private struct HostRoutes: Sendable {
        /// The routes, longest prefix first.
        var routes: [Entry] = []
        /// Whether any route has a prefix other than `/`. Otherwise the path does not matter, and may be ambiguous.
        var hasPaths: Bool { routes.contains { $0.prefix != "/" } }
    }

    private struct Entry: Sendable {
        let prefix: String
        let stripPrefix: Bool
        let target: RouteTarget
    }

    /// Creates a table.
    ///
    /// - Parameter routes: Routes that the configuration has checked. A route with an invalid host is left out.
    package init(_ routes: [Route]) {
        var hosts = HostIndex<HostRoutes>()
        var patterns: [HostPattern] = []
        for route in routes {
            guard let pattern = try? HostPattern(route.host) else { continue }
            var entries = hosts[pattern] ?? HostRoutes()
            if entries.routes.isEmpty { patterns.append(pattern) }
            let target = RouteTarget(
                agent: route.agent,
                service: route.service,
                timeout: route.timeout,
                label: "\(pattern)\(route.pathPrefix)"
            )
            let entry = Entry(prefix: route.pathPrefix, stripPrefix: route.stripPrefix, target: target)
            let place = entries.routes.firstIndex { $0.prefix.utf8.count < entry.prefix.utf8.count }
            entries.routes.insert(entry, at: place ?? entries.routes.endIndex)
            hosts[pattern] = entries
        }
        self.hosts = hosts
        self.hostPatterns = patterns
    }

    /// Finds the route of a request.
    ///
    /// - Parameters:
    ///   - host: The host of the parsed Host field: lower case, no port, no final dot, an IPv6 address in brackets.
    ///   - target: The request target in origin form with its query, or `*`.
    package func match(host: String, target: String) -> RouteDecision {
        guard let entries = hosts.find(host) else { return .unknownHost }
        // `OPTIONS *` concerns the server as a whole.
        if target == "*" {
            guard let root = entries.routes.last, root.prefix == "/" else { return .unknownPath }
            return .match(RouteMatch(target: root.target, stripped: 0))
        }
        let path = target.utf8.prefix(RequestPath.length(of: target))
        if entries.hasPaths, RequestPath.isAmbiguous(path) { return .badPath }
        for entry in entries.routes {
            guard let length = RequestPath.match(prefix: entry.prefix, path) else { continue }
            return .match(RouteMatch(target: entry.target, stripped: entry.stripPrefix ? length : 0))
        }
        return .unknownPath
    }

    /// The NAME of the token whose agents get all requests for a host, or for all hosts of a wildcard, that no route
    /// for a path takes; `nil` if no route does.
    package func agent(of host: HostPattern) -> String? {
        hosts.find(host.description)?.routes.last { $0.prefix == "/" }?.target.agent
    }

    /// Whether any route serves this host.
    package func knows(host: String) -> Bool {
        hosts.find(host) != nil
    }
}
