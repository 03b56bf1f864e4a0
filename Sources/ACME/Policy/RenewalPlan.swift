package import Formats

/// The time at which one certificate is renewed. It is stored, so that a random time is drawn once and is the same for
/// all replicas. All times are by the CA's clock.
package struct RenewalPlan: Equatable, Sendable {
    /// The ``CertificateFacts/id`` of the certificate.
    package var certificate: String
    package var at: UnixTime
    /// The window that the CA suggested, if any.
    package var window: Window?
    /// The URL of the CA's explanation of the window.
    package var explanation: String?
    /// The time of the next request for renewal information, or `nil` for immediately.
    package var nextPoll: UnixTime?
    /// The earliest time of renewal, regardless of the CA's suggested window; `nil` if the certificate's issuance was
    /// not recorded.
    package var earliest: UnixTime?
    /// The fields that this release does not know, which are kept when the plan is written again.
    var others: [String: JSONValue] = [:]

    package struct Window: Equatable, Sendable {
        package var start: UnixTime
        package var end: UnixTime

        package init(start: UnixTime, end: UnixTime) {
            self.start = start
            self.end = end
        }
    }

    package init(
        certificate: String,
        at: UnixTime,
        window: Window? = nil,
        explanation: String? = nil,
        nextPoll: UnixTime? = nil
    ) {
        self.certificate = certificate
        self.at = at
        self.window = window
        self.explanation = explanation
        self.nextPoll = nextPoll
    }
}
