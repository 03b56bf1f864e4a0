import Synchronization

/// Chooses a route for each request: the configuration's routes first, behind them the hosts that agents serve.
///
/// From any thread. The lock is held only while a reference is copied.
package final class Router: Sendable {
    /// Of the configuration; they never change while the process lives.
    package let routes: RouteTable
    private let hosts = Mutex(HostTable.empty)

    package init(routes: RouteTable) {
        self.routes = routes
    }

    /// Called by whoever keeps the agents' sessions, each time an agent's hosts came or went.
    package func replaceHosts(_ table: HostTable) {
        hosts.withLock { $0 = table }
    }

    package func route(host: String, target: String) -> RouteDecision {
        let decision = routes.match(host: host, target: target)
        switch decision {
        case .match, .badPath: return decision
        case .unknownHost, .unknownPath:
            guard let found = hosts.withLock({ $0 }).find(host) else { return decision }
            return .match(RouteMatch(target: found, stripped: 0))
        }
    }

    /// Whether an agent that is attached serves this host, as its token allows; routes do not count.
    package func isOffered(host: String) -> Bool { hosts.withLock { $0 }.find(host) != nil }

    /// Whether anything is served under this host now: plain HTTP redirects only such hosts.
    package func knows(host: String) -> Bool {
        routes.knows(host: host) || hosts.withLock { $0 }.find(host) != nil
    }
}
