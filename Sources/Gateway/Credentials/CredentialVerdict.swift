package import NIOCore

/// What became of an attempt to authenticate.
package enum CredentialVerdict: Sendable {
    case granted(Credential)
    /// The other side learns only that it was refused, and perhaps when to come again: the same answer for every
    /// reason.
    case refused(CredentialRefusal, retryAfter: TimeAmount?)
}

/// Why, for our own log and metrics; never for the other side.
package enum CredentialRefusal: String, CaseIterable, Sendable {
    case unknown
    case wrongSecret = "wrong_secret"
    case revoked
}

/// Which credentials a reload found changed, by id.
package struct CredentialChanges: Sendable, Equatable {
    /// Revoked or gone: sessions that use them have to end.
    package var ended: [String]
    /// Other services, hosts or name; what their agents registered has to be checked again.
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
    package var unknown: UInt64 = 0
    package var wrongSecret: UInt64 = 0
    package var revoked: UInt64 = 0
    /// Refusals that were over the limit of failures (they are counted above too).
    package var limited: UInt64 = 0
    /// Reloads in which the folder could not be listed; the last good view was kept.
    package var failedReloads: UInt64 = 0
    /// Credentials that are good now.
    package var good: Int = 0
    /// Files that cannot be used now.
    package var badFiles: Int = 0
}
