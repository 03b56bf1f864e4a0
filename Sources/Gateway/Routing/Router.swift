package import Cluster
package import Formats
import Synchronization

/// Chooses a route for each request: first among the routes of the configuration, then among the hosts that agents of
/// this replica offer, then among those of other replicas.
///
/// May be used from any thread. The lock is held only while a reference is copied.
package final class Router: Sendable {
    /// The routes of the configuration, which are constant for the life of the process.
    package let routes: RouteTable
    private let offers = Mutex(AgentOffers())
    /// Returns the attachments of the other replicas.
    let cluster: @Sendable () -> SessionIndex

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
    package func agent(offering host: String) -> String? {
        let pattern = HostPattern.exact(host)
        for index in [current.index, cluster()] {
            guard let owner = index.owner(of: pattern), owner == self.owner(of: pattern) else { continue }
            return index.rows(host: pattern, tokenID: owner.tokenID).first?.info.agent
        }
        return nil
    }

    /// The token that owns exactly this pattern, among the attachments of all replicas.
    package func owner(of host: HostPattern) -> HostOwner? {
        let (local, remote) = (current.index.owner(of: host), cluster().owner(of: host))
        guard let local, let remote else { return local ?? remote }
        return remote.precedes(local) ? remote : local
    }

    /// Whether any route or agent serves this host. Plain HTTP redirects to HTTPS for such hosts only.
    package func knows(host: String) -> Bool {
        routes.knows(host: host) || find(host) != nil
    }

    private func find(_ host: String) -> RouteTarget? { current.find(host, in: cluster()) }
}
