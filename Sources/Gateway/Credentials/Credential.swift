/// What is known of one token, without its secret. Immutable.
package final class Credential: Sendable {
    /// The public part of the token.
    package let id: String
    /// What routes call the agents that attach with it. Several tokens may share a name.
    package let name: String
    package let services: [ServicePattern]
    package let hosts: [HostPattern]
    /// When it was made, RFC 3339; only to be shown.
    package let created: String
    /// When it was revoked, as the file says it; nil while it is good.
    package let revoked: String?

    let secretHash: SecretHash

    init(
        id: String,
        name: String,
        services: [ServicePattern],
        hosts: [HostPattern],
        secretHash: SecretHash,
        created: String,
        revoked: String?
    ) {
        self.id = id
        self.name = name
        self.services = services
        self.hosts = hosts
        self.secretHash = secretHash
        self.created = created
        self.revoked = revoked
    }

    package var isRevoked: Bool { revoked != nil }

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
