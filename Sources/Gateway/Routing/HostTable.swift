/// A host that an attached agent serves, as its token allows.
package struct HostRegistration: Hashable, Sendable {
    package let host: HostPattern
    /// The NAME of its token.
    package let agent: String
    package let service: String

    package init(host: HostPattern, agent: String, service: String) {
        self.host = host
        self.agent = agent
        self.service = service
    }
}

/// The hosts that agents serve at this moment. Immutable; a new one is built when an agent comes or goes.
package struct HostTable: Sendable {
    package static let empty = HostTable([])

    private let hosts: HostIndex<RouteTarget>

    /// - Parameter registrations: in the order in which they came: who asks for a taken host later does not get it.
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

    package func find(_ host: String) -> RouteTarget? {
        hosts.find(host)
    }
}
