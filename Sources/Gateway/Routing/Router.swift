import Synchronization

/// Chooses a route for each request: first among the routes of the configuration, then among the hosts that agents
/// offer.
///
/// May be used from any thread. The lock is held only while a reference is copied.
package final class Router: Sendable {
    /// The routes of the configuration, which are constant for the life of the process.
    package let routes: RouteTable
    private let hosts = Mutex(HostTable.empty)

    package init(routes: RouteTable) {
        self.routes = routes
    }

    /// Replaces the hosts that agents offer. Called by ``AgentRegistry`` whenever they change.
    package func replaceHosts(_ table: HostTable) {
        hosts.withLock { $0 = table }
    }

    /// Chooses the route of a request; see ``RouteTable/match(host:target:)`` for the parameters.
    package func route(host: String, target: String) -> RouteDecision {
        let decision = routes.match(host: host, target: target)
        switch decision {
        case .match, .badPath: return decision
        case .unknownHost, .unknownPath:
            guard let found = hosts.withLock({ $0 }).find(host) else { return decision }
            return .match(RouteMatch(target: found, stripped: 0))
        }
    }

    /// The NAME of the token of the agent that offers exactly this host; see ``HostTable/owner(of:)``. Routes are not
    /// considered.
    package func owner(of host: String) -> String? { hosts.withLock { $0 }.owner(of: host) }

    /// Whether any route or agent serves this host. Plain HTTP redirects to HTTPS for such hosts only.
    package func knows(host: String) -> Bool {
        routes.knows(host: host) || hosts.withLock { $0 }.find(host) != nil
    }
}
