package import Formats

/// What is known of one token, without its secrets. Immutable.
package final class Credential: Sendable {
    /// The public part of the token.
    package let id: String
    /// What routes call the agents that attach with it. Several tokens may share a name.
    package let name: String
    package let services: [ServicePattern]
    package let hosts: [HostPattern]
    /// Agent processes that may be attached with it at a time; nil: any number.
    package let maxAgents: Int?
    /// When it was made, RFC 3339; only to be shown.
    package let created: String
    /// When it was revoked, as the document says it; nil while it is good.
    package let revoked: String?
    /// At least one; the newest first.
    package let secrets: [Secret]

    /// One of the secrets that a token may come with. After a rotation there are two for a while.
    package struct Secret: Sendable, Equatable {
        package let hash: SecretHash
        /// Not accepted from then on; nil: until it is replaced.
        package let notAfter: UnixTime?

        package func isAccepted(at now: UnixTime) -> Bool { notAfter.map { now < $0 } ?? true }
    }

    /// Secrets of one token at most.
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

    /// Whether it would let an agent in that comes with this secret.
    package func accepts(_ hash: SecretHash, at now: UnixTime) -> Bool {
        !isRevoked && secrets.contains { $0.hash == hash && $0.isAccepted(at: now) }
    }

    /// To be asked when an agent registers, and again for every stream.
    package func allows(service: String) -> Bool {
        services.contains { $0.covers(service) }
    }

    package func allows(host: HostPattern) -> Bool {
        hosts.contains { $0.covers(host) }
    }

    /// 1 to 63 of `[a-z0-9-]`.
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
