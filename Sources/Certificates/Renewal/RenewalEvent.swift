package import ACME
package import Formats
package import Store

/// An event of a certificate, for the log and the metrics. It is reported once, by the replica that caused it.
package enum RenewalEvent: Sendable {
    case ordering(names: [CertificateName], authority: String)
    case issued(names: [CertificateName], authority: String, version: UInt64, notAfter: UnixTime)
    /// - Parameter nextTry: The time of the next attempt by the CA's clock, or `nil` if another CA is tried at once.
    case failed(names: [CertificateName], authority: String, ACMEFailure, nextTry: UnixTime?)
    /// A CA accepts no orders: it is out of order or limits the account. Reported at most once a minute for each CA.
    ///
    /// - Parameter waiting: The number of certificates that this replica would order now.
    case authorityClosed(authority: String, AuthorityHold, waiting: Int)
    /// A CA accepts orders again.
    ///
    /// - Parameter seconds: The time since the first failure.
    case authorityOpened(authority: String, seconds: Int64, waiting: Int)
    /// The weekly budget of certificates on demand is used up for a host. Reported for one host in ten minutes.
    case budgetUsedUp(host: CertificateName, token: String, until: UnixTime)
    /// The number of managed hosts on demand has reached its limit. Reported once in ten minutes.
    case tooManyOnDemand(limit: Int)
    /// An expired certificate of a host on demand that no agent offers any more was removed.
    case removed(CertificateName)
    /// No attempt was possible, for a reason other than the CA's. Reported for one certificate a minute.
    ///
    /// - Parameter others: The number of such errors since the last report.
    case error(names: [CertificateName], StoreError, others: Int)
}

/// The displayed state of a certificate that a CA issues. It is the same on every replica.
package struct RenewalStatus: Sendable {
    package var key: StoreKey
    package var names: [CertificateName]
    /// Whether the certificate is for a host that an agent offers.
    package var isOnDemand: Bool
    /// The time of the renewal or of the first order, by the CA's clock.
    package var nextRenewal: UnixTime?
    /// The earliest time of the next attempt.
    package var nextTry: UnixTime?
    /// The directory URL of the CA that issued the present certificate.
    package var authority: String?
    package var lastError: RenewalState.LastError?
    package var failures = 0
    /// Whether this replica is ordering the certificate now.
    package var isOrdering = false
    /// The lease that this replica waits for, because another process holds it for longer than a second.
    package var leaseWait: LeaseWait?
    /// The URL of the CA's explanation of its renewal window.
    package var explanation: String?

    package init(key: StoreKey, names: [CertificateName], isOnDemand: Bool) {
        self.key = key
        self.names = names
        self.isOnDemand = isOnDemand
    }
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
