package import Cluster
package import Formats

/// The offers of all attached agents at one time. Immutable: ``AgentRegistry`` makes a new one for each change, at the
/// cost of the change.
package struct AgentOffers: Sendable {
    package var index = SessionIndex()
    /// The hosts that no agent offers any more: requests for them are answered with 503 instead of 404.
    package var remembered = HostIndex<RememberedHost>()

    package init() {}

    /// An owner of a host with one of its attachments, as ``SessionIndex/find(_:)`` returns it.
    typealias Found = (host: HostPattern, owner: HostOwner, row: SessionRow)

    /// The target for a host, in the form that ``RouteTable/match(host:target:)`` takes, or `nil` if no agent offers or
    /// has offered it. Every replica chooses alike among the attachments of all. Where the owner has none here, no
    /// other token takes its place.
    ///
    /// - Parameter cluster: The attachments of the other replicas.
    package func find(_ host: String, in cluster: SessionIndex = SessionIndex()) -> RouteTarget? {
        let live = Self.first(index.find(host), cluster.find(host))
        let last = remembered.find(host)
        if let live {
            // What an agent has offered by a more specific name does not fall to the wildcard of another token.
            guard let last, last.host.specificity > live.host.specificity, last.tokenID != live.owner.tokenID else {
                return RouteTarget(host: live.host, owner: live.owner, row: live.row)
            }
        }
        return last.map { last in
            RouteTarget(
                host: last.host,
                tokenID: last.tokenID,
                agent: last.agent,
                service: last.service,
                label: "\(last.host)/"
            )
        }
    }

    private static func first(_ local: Found?, _ remote: Found?) -> Found? {
        guard let local, let remote else { return local ?? remote }
        if local.host != remote.host { return local.host.specificity > remote.host.specificity ? local : remote }
        return remote.owner.precedes(local.owner) ? remote : local
    }
}

extension RouteTarget {
    /// - Parameter row: One of the attachments that offer the host.
    convenience init(host: HostPattern, owner: HostOwner, row: SessionRow) {
        self.init(
            host: host,
            tokenID: owner.tokenID,
            agent: row.info.agent,
            service: row.services[0],
            label: "\(host)/"
        )
    }
}

/// A host that no agent offers any more, and what its last attachment offered.
package struct RememberedHost: Sendable {
    package var host: HostPattern
    package var agent: String
    package var service: String
    package var tokenID: String
    /// The number of hosts that were remembered before.
    package var number: UInt64

    package init(host: HostPattern, agent: String, service: String, tokenID: String, number: UInt64) {
        self.host = host
        self.agent = agent
        self.service = service
        self.tokenID = tokenID
        self.number = number
    }
}
