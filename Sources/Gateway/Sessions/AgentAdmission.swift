package import HopProtocol

/// What a HELLO asks for, checked against the token: whether an agent is let in and what it may offer.
package struct AgentAdmission: Sendable {
    package var services: [String]
    package var hosts: [HostPattern]
    package var maxRequests: Int

    /// Bounds of one HELLO.
    package static let services = 64
    package static let hosts = 256
    package static let requests = 65_536

    package struct Rejection: Error, Equatable, Sendable {
        package enum Reason: Sendable {
            case malformed
            case service
            case host
        }

        package var reason: Reason
        /// For both logs; it names what is not allowed.
        package var message: String
    }

    package static func check(
        _ hello: Hello,
        allowsService: (String) -> Bool,
        allowsHost: (HostPattern) -> Bool
    ) throws(Rejection) -> AgentAdmission {
        guard (1...253).contains(hello.name.utf8.count), hello.name.utf8.allSatisfy({ $0 > 0x20 && $0 < 0x7F }) else {
            throw Rejection(reason: .malformed, message: "the agent's name is not 1 to 253 visible characters")
        }
        guard hello.maxRequests > 0 else {
            throw Rejection(reason: .malformed, message: "max_requests is not positive")
        }
        let (services, hosts) = try offer(hello.services, hello.hosts, allowsService, allowsHost)
        return AgentAdmission(services: services, hosts: hosts, maxRequests: min(hello.maxRequests, requests))
    }

    /// Also for SERVICES later in the session's life.
    package static func offer(
        _ services: [String],
        _ hosts: [String],
        _ allowsService: (String) -> Bool,
        _ allowsHost: (HostPattern) -> Bool
    ) throws(Rejection) -> ([String], [HostPattern]) {
        guard !services.isEmpty else { throw Rejection(reason: .malformed, message: "no service is offered") }
        guard services.count <= Self.services, hosts.count <= Self.hosts else {
            throw Rejection(reason: .malformed, message: "more than \(Self.services) services or \(Self.hosts) hosts")
        }
        for service in services {
            guard Credential.isName(service) else {
                throw Rejection(reason: .malformed, message: "the service name \"\(service.prefix(64))\" is not valid")
            }
            guard allowsService(service) else {
                throw Rejection(reason: .service, message: "the token does not allow the service \"\(service)\"")
            }
        }
        var patterns: [HostPattern] = []
        for host in hosts {
            guard let pattern = try? HostPattern(host) else {
                throw Rejection(reason: .malformed, message: "the host \"\(host.prefix(256))\" is not valid")
            }
            guard allowsHost(pattern) else {
                throw Rejection(reason: .host, message: "the token does not allow the host \"\(pattern)\"")
            }
            patterns.append(pattern)
        }
        return (services, patterns)
    }
}
