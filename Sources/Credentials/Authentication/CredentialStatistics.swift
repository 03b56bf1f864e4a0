/// Counters since the start of the process, and gauges of the present state.
package struct CredentialStatistics: Sendable, Equatable {
    package var granted: UInt64 = 0
    package var refused: [CredentialRefusal: UInt64] = [:]
    /// The number of refusals above the limit of failures, which ``refused`` counts too.
    package var limited: UInt64 = 0
    /// The number of documents that were rejected.
    package var faults: [CredentialFault: UInt64] = [:]
    /// Gauge: the credentials that are valid now.
    package var valid: Int = 0
    /// Gauge: the revoked credentials.
    package var revoked: Int = 0
    /// Gauge: the documents that cannot be used now. For some of them the last valid version is in use.
    package var unusable: Int = 0

    package init() {}

    /// Adds a credential to the gauges, or subtracts it.
    mutating func count(_ credential: Credential?, _ difference: Int) {
        guard let credential else { return }
        if credential.isRevoked { revoked += difference } else { valid += difference }
    }
}
