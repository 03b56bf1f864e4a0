import Crypto
package import Formats

/// The rules of when certificates are renewed. All functions are pure; times are by the CA's clock.
package enum RenewalPolicy {
    /// The time in seconds between two requests for renewal information if the CA sends no `Retry-After`, and the
    /// bounds of what it may send (RFC 9773 §4.3.2).
    package static let pollPause: Int64 = 6 * 3_600
    package static let shortestPollPause: Int64 = 60
    package static let longestPollPause: Int64 = 86_400

    /// The lifetime in seconds below which a certificate is renewed with half of it left, instead of a third.
    static let shortLifetime: Int64 = 10 * 86_400

    /// - Parameter retryAfter: The CA's `Retry-After`, in seconds.
    package static func pollPause(retryAfter: Int64?) -> Int64 {
        min(max(retryAfter ?? pollPause, shortestPollPause), longestPollPause)
    }

    /// Computes the time of renewal from the certificate's dates alone. It is brought earlier by up to an eighth of
    /// the remaining time, depending on the name, so that certificates that were issued together are not renewed
    /// together.
    package static func renewalTime(_ facts: CertificateFacts, name: String) -> UnixTime {
        let lifetime = max(0, facts.notAfter - facts.notBefore)
        let left = lifetime < shortLifetime ? lifetime / 2 : lifetime / 3
        return facts.notAfter - left - hash(name) % max(1, left / 8)
    }

    /// Creates the plan for a certificate that was just issued.
    ///
    /// By its dates the certificate is not renewed before half of the remaining lifetime has passed, however far it is
    /// backdated. A window of the CA is obeyed after one minute, or after an hour if the previous certificate is less
    /// than about an hour old itself, so that a faulty CA does not cause a storm of orders.
    ///
    /// - Parameter previous: The plan of the certificate that this one replaces.
    package static func initialPlan(
        _ facts: CertificateFacts,
        name: String,
        replacing previous: RenewalPlan?,
        now: UnixTime
    )
        -> RenewalPlan
    {
        var plan = RenewalPlan(certificate: facts.id, at: renewalTime(facts, name: name))
        let half = (facts.notAfter - now) / 2
        plan.at = max(plan.at, now + (half < shortestHalf ? shortestPause : half))
        let followsClosely = previous?.earliest.map { now - $0 < longPause } ?? false
        plan.earliest = now + (followsClosely ? longPause : shortestPause)
        return plan
    }

    /// Half of the shortest remaining lifetime, in seconds, to which the rule above applies. A certificate with less is
    /// of no use, and is replaced after ``shortestPause``.
    static let shortestHalf: Int64 = 10
    static let shortestPause: Int64 = 60
    static let longPause: Int64 = 3_600

    /// Returns the plan for a certificate.
    ///
    /// - Parameters:
    ///   - name: The identity of the certificate, whose hash spreads the times.
    ///   - stored: The stored plan, of this certificate or an earlier one. It is returned unchanged if it is of this
    ///     certificate, and has to be written only if the result differs.
    package static func plan(_ facts: CertificateFacts, name: String, stored: RenewalPlan?) -> RenewalPlan {
        if let stored, stored.certificate == facts.id { return stored }
        return RenewalPlan(certificate: facts.id, at: renewalTime(facts, name: name))
    }

    /// Returns the plan after the CA has sent its renewal information.
    ///
    /// - Parameters:
    ///   - info: The renewal information, or `nil` if the CA offers none.
    ///   - pause: The time in seconds until the next request.
    ///   - random: A random number that selects the time within a new window.
    package static func plan(
        _ facts: CertificateFacts,
        name: String,
        stored: RenewalPlan?,
        info: ACMERenewalInfo?,
        pause: Int64,
        now: UnixTime,
        random: UInt64
    ) -> RenewalPlan {
        var plan = plan(facts, name: name, stored: stored)
        plan.nextPoll = now + pause
        guard let info else {
            if plan.window != nil {
                plan.at = max(renewalTime(facts, name: name), plan.earliest ?? .earliest)
                plan.window = nil
                plan.explanation = nil
            }
            return plan
        }
        plan.explanation = info.explanation
        let window = RenewalPlan.Window(start: info.start, end: info.end)
        guard plan.window != window else { return plan }
        plan.window = window
        plan.at = min(info.start + Int64(random % UInt64(info.end - info.start)), latest(facts))
        if let earliest = plan.earliest { plan.at = max(plan.at, earliest) }
        return plan
    }

    /// Returns the plan after the CA could not be reached. The known window and the certificate's dates remain in
    /// effect.
    package static func planAfterFailure(_ plan: RenewalPlan, now: UnixTime) -> RenewalPlan {
        var plan = plan
        plan.nextPoll = now + pollPause
        return plan
    }

    /// Computes the latest accepted time of renewal: a tenth of the lifetime is left for attempts, even if the CA's
    /// window is later.
    private static func latest(_ facts: CertificateFacts) -> UnixTime {
        facts.notAfter - max(0, facts.notAfter - facts.notBefore) / 10
    }

    /// Computes a hash that is the same on every machine and in every process.
    private static func hash(_ name: String) -> Int64 {
        var number: UInt64 = 0
        for byte in SHA256.hash(data: Array(name.utf8)).prefix(8) { number = number << 8 | UInt64(byte) }
        return Int64(number >> 1)
    }
}
