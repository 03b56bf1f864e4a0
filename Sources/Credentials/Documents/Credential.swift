package import Formats

/// The properties of one token, without its secrets. Immutable.
package final class Credential: Sendable {
    /// The public part of the token.
    package let id: String
    /// The name by which routes select agents that use the token. Several tokens may have the same name.
    package let name: String
    package let services: [ServicePattern]
    package let hosts: [HostPattern]
    /// The maximum number of agent processes that use the token at a time, or `nil` for no limit.
    package let maxAgents: Int?
    /// The time of creation in RFC 3339 form, for display only.
    package let created: String
    /// The time of revocation as written in the document, or `nil` if the token is not revoked.
    package let revoked: String?
    /// The accepted secrets, at least one, the newest first.
    package let secrets: [Secret]

    /// One of the secrets of a token. After a rotation there are two for a while.
    package struct Secret: Sendable, Equatable {
        package let hash: SecretHash
        /// The time from which the secret is no longer accepted, or `nil` until it is replaced.
        package let notAfter: UnixTime?

        package func isAccepted(at now: UnixTime) -> Bool { notAfter.map { now < $0 } ?? true }
    }

    /// The maximum number of secrets of one token.
    package static let secretLimit = 8

    init(
        id: String,
        name: String,
        services: [ServicePattern],
        hosts: [HostPattern],
        maxAgents: Int?,
        created: String,
        revoked: String?,
        secrets: [Secret]
    ) {
        self.id = id
        self.name = name
        self.services = services
        self.hosts = hosts
        self.maxAgents = maxAgents
        self.created = created
        self.revoked = revoked
        self.secrets = secrets
    }

    package var isRevoked: Bool { revoked != nil }

    /// Whether an agent that presents this secret is authenticated.
    package func accepts(_ hash: SecretHash, at now: UnixTime) -> Bool {
        !isRevoked && secrets.contains { $0.hash == hash && $0.isAccepted(at: now) }
    }

    /// Whether agents may offer the service. Checked when an agent registers, and again for every stream.
    package func allows(service: String) -> Bool {
        services.contains { $0.covers(service) }
    }

    /// Whether agents may serve the host. Checked when an agent registers, and again for every stream.
    package func allows(host: HostPattern) -> Bool {
        hosts.contains { $0.covers(host) }
    }

    /// The specificity of the most specific pattern that covers the host, or `nil` if agents may not serve it.
    package func specificity(of host: HostPattern) -> Int? {
        hosts.lazy.filter { $0.covers(host) }.map(\.specificity).max()
    }

    /// Whether the text is a valid name: 1 to 63 bytes of `[a-z0-9-]`.
    package static func isName(_ text: String) -> Bool {
        (1...63).contains(text.utf8.count)
            && text.utf8.allSatisfy { byte in
                switch byte {
                case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "-"):
                    true
                default: false
                }
            }
    }
}
