package import ACME
package import Formats
package import Store

/// What happened about a certificate, for the log and the counters: each told once, by the replica that did it.
package enum RenewalEvent: Sendable {
    case ordering(names: [CertificateName], authority: String)
    case issued(names: [CertificateName], authority: String, generation: Generation, notAfter: UnixTime)
    /// - Parameter nextTry: by the CA's clock; nil: another CA is tried at once.
    case failed(names: [CertificateName], authority: String, ACMEFailure, nextTry: UnixTime?)
    /// So many hosts on demand are looked after that no further one is; told once.
    case tooManyOnDemand(limit: Int)
    /// Nothing could be done for a reason that is not the CA's; told again only when it is another.
    case error(names: [CertificateName], IssuanceError)
}

/// What is known of a certificate that is had by ACME. The same on every replica.
package struct RenewalStatus: Sendable {
    package var key: StoreKey
    package var names: [CertificateName]
    /// A host of an agent's.
    package var isOnDemand: Bool
    /// When it is to be renewed, or ordered for the first time, by the CA's clock.
    package var nextRenewal: UnixTime?
    /// No attempt before then.
    package var nextTry: UnixTime?
    /// The directory URL of the CA that issued the present one.
    package var authority: String?
    package var lastError: RenewalState.LastError?
    package var failures: Int
    /// This replica is ordering it now.
    package var isOrdering: Bool
    /// Where the CA says why it wants it renewed.
    package var explanation: String?
}

/// The outcome of a request for a new certificate.
package enum RenewalOutcome: Equatable, Sendable {
    case issued(notAfter: UnixTime)
    case failed(ACMEFailure)
    /// No attempt is allowed before then.
    case held(until: UnixTime, reason: String)
    /// No attempt was made, for a reason other than the CA's.
    case error(String)
}
