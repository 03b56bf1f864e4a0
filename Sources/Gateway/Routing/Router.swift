package import Cluster
import Formats
import Synchronization

/// Chooses a route for each request: first among the routes of the configuration, then among the hosts that agents of
/// this replica offer, then among those of other replicas.
///
/// May be used from any thread. The lock is held only while a reference is copied.
package final class Router: Sendable {
    /// The routes of the configuration, which are constant for the life of the process.
    package let routes: RouteTable
    private let offers = Mutex(AgentOffers())
    private let cluster: @Sendable () -> SessionIndex

    /// - Parameter cluster: Returns the attachments of the other replicas.
    package init(routes: RouteTable, cluster: @escaping @Sendable () -> SessionIndex = { SessionIndex() }) {
        self.routes = routes
        self.cluster = cluster
    }

    /// The offers of the attached agents.
    package var current: AgentOffers { offers.withLock { $0 } }

    /// Replaces the offers of the attached agents. Called by ``AgentRegistry`` whenever it changes.
    package func replaceOffers(_ new: AgentOffers) { offers.withLock { $0 = new } }

    /// Chooses the route of a request; see ``RouteTable/match(host:target:)`` for the parameters.
    package func route(host: String, target: String) -> RouteDecision {
        let decision = routes.match(host: host, target: target)
        switch decision {
        case .match, .badPath: return decision
        case .unknownHost, .unknownPath:
            return find(host).map { .match(RouteMatch(target: $0, stripped: 0)) } ?? decision
        }
    }

    /// The NAME of the token of the agents that offer exactly this host, or `nil` if there are none. Neither wildcards
    /// nor routes count.
    package func owner(of host: String) -> String? {
        current.index.rows(host: .exact(host)).first?.info.agent
    }

    /// Whether any route or agent serves this host. Plain HTTP redirects to HTTPS for such hosts only.
    package func knows(host: String) -> Bool {
        routes.knows(host: host) || find(host) != nil
    }

    private func find(_ host: String) -> RouteTarget? {
        current.find(host) ?? cluster().find(host).map { RouteTarget(host: $0.host, row: $0.row) }
    }
}
