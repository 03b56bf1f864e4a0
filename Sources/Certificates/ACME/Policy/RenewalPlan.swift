package import Formats

/// When one certificate is renewed. It is kept in the store, so that a random time is drawn once and is the same for
/// all replicas. All times are of the CA's clock.
package struct RenewalPlan: Equatable, Sendable {
    /// Which certificate: ``CertificateFacts/id``.
    package var certificate: String
    package var at: UnixTime
    /// The CA's window, if it has suggested one.
    package var window: Window?
    /// Where the CA says why.
    package var explanation: String?
    /// When the CA is to be asked for a window the next time; nil: now.
    package var nextPoll: UnixTime?
    /// Not before, whatever window the CA names; nil: nothing is known of its issuance.
    package var earliest: UnixTime?

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
