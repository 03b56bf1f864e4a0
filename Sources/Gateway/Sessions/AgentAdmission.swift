package import Cluster
import Credentials
package import Formats
package import HopProtocol

/// The result of checking an agent's HELLO against its token: the services and hosts that the agent may offer.
///
/// Pure functions, called by ``AgentSession``.
package struct AgentAdmission: Sendable {
    package var services: [String]
    package var claims: [HostClaim]
    package var maxRequests: Int

    /// The maximum number of services in one offer.
    package static let serviceLimit = 64
    /// The maximum number of hosts in one offer.
    package static let hostLimit = 256
    /// The maximum length of the names of all services and hosts of one offer, in bytes: other replicas read the offer
    /// in one row of the store.
    package static let offerLimit = 30_000
    /// The greatest number of concurrent requests that an agent is sent; a greater `max_requests` is lowered to this.
    package static let requestLimit = 65_536

    package struct Rejection: Error, Equatable, Sendable {
        package enum Reason: Sendable {
            case malformed
            case service
            case host
        }

        package var reason: Reason
        /// An explanation for the gateway's log and for the agent's. It names the service or host that is not allowed.
        package var message: String
    }

    /// Checks a HELLO.
    ///
    /// - Parameters:
    ///   - allowsService: Whether the token allows this service.
    ///   - specificity: Returns how specifically the token allows a host pattern, or `nil` if it does not.
    package static func check(
        _ hello: Hello,
        allowsService: (String) -> Bool,
        specificity: (HostPattern) -> Int?
    ) throws(Rejection) -> AgentAdmission {
        guard (1...253).contains(hello.name.utf8.count), hello.name.utf8.allSatisfy({ $0 > 0x20 && $0 < 0x7F }) else {
            throw Rejection(reason: .malformed, message: "the agent's name is not 1 to 253 visible characters")
        }
        guard hello.maxRequests > 0 else {
            throw Rejection(reason: .malformed, message: "max_requests is not positive")
        }
        let (services, claims) = try checkOffer(hello.services, hello.hosts, allowsService, specificity)
        return AgentAdmission(services: services, claims: claims, maxRequests: min(hello.maxRequests, requestLimit))
    }

    /// Checks the services and hosts of a HELLO, or of a later SERVICES message.
    ///
    /// - Returns: The services and the hosts, without duplicates.
    package static func checkOffer(
        _ services: [String],
        _ hosts: [String],
        _ allowsService: (String) -> Bool,
        _ specificity: (HostPattern) -> Int?
    ) throws(Rejection) -> ([String], [HostClaim]) {
        guard !services.isEmpty else { throw Rejection(reason: .malformed, message: "no service is offered") }
        guard services.count <= serviceLimit, hosts.count <= hostLimit else {
            throw Rejection(reason: .malformed, message: "more than \(serviceLimit) services or \(hostLimit) hosts")
        }
        guard (services + hosts).reduce(0, { $0 + $1.utf8.count }) <= offerLimit else {
            let message = "the names of the services and hosts are longer than \(offerLimit) bytes together"
            throw Rejection(reason: .malformed, message: message)
        }
        for service in services {
            guard Credential.isName(service) else {
                throw Rejection(reason: .malformed, message: "the service name \"\(service.prefix(64))\" is not valid")
            }
            guard allowsService(service) else {
                throw Rejection(reason: .service, message: "the token does not allow the service \"\(service)\"")
            }
        }
        var claims: [HostClaim] = []
        for host in hosts {
            guard let pattern = try? HostPattern(host) else {
                throw Rejection(reason: .malformed, message: "the host \"\(host.prefix(256))\" is not valid")
            }
            guard let specificity = specificity(pattern) else {
                throw Rejection(reason: .host, message: "the token does not allow the host \"\(pattern)\"")
            }
            claims.append(HostClaim(host: pattern, specificity: specificity))
        }
        return (services.uniqued(), claims.uniqued())
    }
}

extension Array where Element: Hashable {
    /// The elements without those that equal an earlier one.
    func uniqued() -> [Element] {
        var seen: Set<Element> = []
        return filter { seen.insert($0).inserted }
    }
}
