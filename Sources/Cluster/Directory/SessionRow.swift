package import Formats
package import HopProtocol

/// The identity of one attachment, as the token and the agent's HELLO state it.
package struct AttachmentInfo: Equatable, Sendable {
    /// The id of the session at its replica.
    package var id: UInt64
    package var tokenID: String
    /// The NAME of the token, by which routes refer to the agent.
    package var agent: String
    /// The agent's own name, from its HELLO.
    package var instance: String
    /// The run of the agent's process.
    package var run: RunID
    /// The number of this attachment within the run.
    package var number: UInt64

    package init(id: UInt64, tokenID: String, agent: String, instance: String, run: RunID, number: UInt64) {
        self.id = id
        self.tokenID = tokenID
        self.agent = agent
        self.instance = instance
        self.run = run
        self.number = number
    }
}

/// A host that an agent offers.
package struct HostClaim: Hashable, Sendable {
    package var host: HostPattern
    /// The specificity of the most specific pattern of the token that covers the host (``HostPattern/specificity``), or
    /// `nil` if the token does not allow the host.
    package var specificity: Int?

    package init(host: HostPattern, specificity: Int?) {
        self.host = host
        self.specificity = specificity
    }
}

/// One attachment with what it offers. Immutable: an attachment that offers something else gets a new row.
package final class SessionRow: Sendable {
    package let info: AttachmentInfo
    /// The services without duplicates, at least one. Requests for a host of the row are sent to the first.
    package let services: [String]
    /// The offered hosts without duplicates, also those that the token does not allow at the moment.
    package let claims: [HostClaim]
    /// The way that requests are sent; the owner of the index knows its type.
    package let upstream: any AnyObject & Sendable

    package init(
        _ info: AttachmentInfo,
        services: [String],
        claims: [HostClaim],
        upstream: any AnyObject & Sendable
    ) {
        precondition(!services.isEmpty, "an attachment offers a service")
        self.info = info
        self.services = services
        self.claims = claims
        self.upstream = upstream
    }

    /// The hosts that the token allows.
    package var hosts: [HostPattern] { claims.filter { $0.specificity != nil }.map(\.host) }
}

extension SessionRow: Hashable {
    package static func == (left: SessionRow, right: SessionRow) -> Bool { left === right }
    package func hash(into hasher: inout Hasher) { hasher.combine(ObjectIdentifier(self)) }
}
