package import NIOCore

/// The result of an attempt to authenticate.
package enum AuthenticationResult: Sendable {
    /// The token is accepted.
    ///
    /// - secret: The hash of the secret that the agent presented.
    case granted(Credential, secret: SecretHash)
    /// The token is rejected. The peer learns only that, and possibly when to retry: the response is the same for every
    /// reason.
    case refused(CredentialRefusal, retryAfter: TimeAmount?)
}

/// The reason for a rejection, for the local log and metrics. It is never sent to the peer.
package enum CredentialRefusal: String, CaseIterable, Sendable {
    case unknown
    case wrongSecret = "wrong_secret"
    /// The secret was replaced by a rotation, and its grace period has ended.
    case expiredSecret = "expired_secret"
    case revoked
}
