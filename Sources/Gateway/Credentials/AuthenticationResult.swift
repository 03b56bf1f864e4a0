package import NIOCore

/// What became of an attempt to authenticate.
package enum AuthenticationResult: Sendable {
    /// - secret: the one that the agent came with.
    case granted(Credential, secret: SecretHash)
    /// The other side learns only that it was refused, and perhaps when to come again: the same answer for every
    /// reason.
    case refused(CredentialRefusal, retryAfter: TimeAmount?)
}

/// Why, for our own log and metrics; never for the other side.
package enum CredentialRefusal: String, CaseIterable, Sendable {
    case unknown
    case wrongSecret = "wrong_secret"
    /// It was replaced by a rotation, and the grace is over.
    case expiredSecret = "expired_secret"
    case revoked
}

/// Which credentials changed, by id.
package struct CredentialChanges: Sendable, Equatable {
    /// Revoked or gone: sessions that use them have to end.
    package var ended: [String]
    /// Other services, hosts, name or secrets; what their agents registered has to be checked again.
    package var changed: [String]
    package var added: [String]

    package init(ended: [String] = [], changed: [String] = [], added: [String] = []) {
        self.ended = ended
        self.changed = changed
        self.added = added
    }

    package var isEmpty: Bool { ended.isEmpty && changed.isEmpty && added.isEmpty }
}

/// Counts since the start, but for the gauges that say otherwise.
package struct CredentialStatistics: Sendable, Equatable {
    package var granted: UInt64 = 0
    package var refused: [CredentialRefusal: UInt64] = [:]
    /// Refusals that were over the limit of failures (they are counted above too).
    package var limited: UInt64 = 0
    /// Documents that were not taken.
    package var faults: [CredentialFault: UInt64] = [:]
    /// Credentials that are good now.
    package var good: Int = 0
    /// Those that are revoked.
    package var revoked: Int = 0
    /// Documents that cannot be used now; of some of them a last good view may be in use.
    package var bad: Int = 0

    package init() {}
}
