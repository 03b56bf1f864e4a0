package import Formats

/// A host that an agent offers and its token allows.
package struct HostRegistration: Hashable, Sendable {
    package let host: HostPattern
    /// The NAME of the agent's token.
    package let agent: String
    package let service: String

    package init(host: HostPattern, agent: String, service: String) {
        self.host = host
        self.agent = agent
        self.service = service
    }
}

/// The hosts that agents offer. Immutable: ``AgentRegistry`` builds a new one when an attachment comes or goes.
package struct HostTable: Sendable {
    package static let empty = HostTable([])

    private let hosts: HostIndex<RouteTarget>

    /// Creates a table.
    ///
    /// - Parameter registrations: The hosts in the order of their attachments; the first to register a host has it.
    package init(_ registrations: [HostRegistration]) {
        var hosts = HostIndex<RouteTarget>()
        for registration in registrations where hosts[registration.host] == nil {
            hosts[registration.host] = RouteTarget(
                agent: registration.agent,
                service: registration.service,
                label: "\(registration.host)/"
            )
        }
        self.hosts = hosts
    }

    package var count: Int { hosts.count }

    /// The target for a host, in the form that ``RouteTable/match(host:target:)`` takes, or `nil` if no agent offers
    /// it.
    package func find(_ host: String) -> RouteTarget? {
        hosts.find(host)
    }

    /// The NAME of the token of the agent that offers exactly this host, or `nil` if there is none. Wildcards do not
    /// count.
    package func owner(of host: String) -> String? { hosts[.exact(host)]?.agent }
}
