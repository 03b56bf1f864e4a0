import Crypto
package import Formats

/// When certificates are renewed. Pure functions of what is known and of the CA's clock.
package enum RenewalPolicy {
    /// Seconds between two questions for renewal information, if the CA says nothing, and the bounds of what it may say
    /// (RFC 9773 section 4.3.2).
    package static let pollPause: Int64 = 6 * 3_600
    package static let shortestPollPause: Int64 = 60
    package static let longestPollPause: Int64 = 86_400

    /// Below this lifetime a certificate is renewed with half of it left, otherwise with a third.
    static let shortLifetime: Int64 = 10 * 86_400

    /// - Parameter asked: the CA's `Retry-After`, seconds.
    package static func pollPause(asked: Int64?) -> Int64 {
        min(max(asked ?? pollPause, shortestPollPause), longestPollPause)
    }

    /// By the certificate's dates alone. Spread by name over an eighth of what is left, early rather than late, so that
    /// certificates that were issued together are not renewed together.
    package static func time(_ facts: CertificateFacts, name: String) -> UnixTime {
        let lifetime = max(0, facts.notAfter - facts.notBefore)
        let left = lifetime < shortLifetime ? lifetime / 2 : lifetime / 3
        return facts.notAfter - left - hash(name) % max(1, left / 8)
    }

    /// The plan for a certificate that was issued now. By its dates it is not renewed before half of what is left of it,
    /// however far back it is dated; a window of the CA's is obeyed after a minute, or after an hour if the certificate
    /// before was as young. So a CA in error is not stormed.
    ///
    /// - Parameter before: the plan of the certificate that it follows.
    package static func fresh(_ facts: CertificateFacts, name: String, before: RenewalPlan?, now: UnixTime)
        -> RenewalPlan
    {
        var plan = RenewalPlan(certificate: facts.id, at: time(facts, name: name))
        let half = (facts.notAfter - now) / 2
        plan.at = max(plan.at, now + (half < shortestHalf ? shortestPause : half))
        let isHasty = before?.earliest.map { now - $0 < longPause } ?? false
        plan.earliest = now + (isHasty ? longPause : shortestPause)
        return plan
    }

    /// Seconds. What lives shorter than twice this is of no use to anybody, and is not ordered again at once.
    static let shortestHalf: Int64 = 10
    static let shortestPause: Int64 = 60
    static let longPause: Int64 = 3_600

    /// The plan for a certificate.
    ///
    /// - Parameters:
    ///   - name: what the certificate is called by; its hash spreads the times.
    ///   - stored: the plan that is in the store, of this certificate or an older one. It is kept where nothing has
    ///     changed, and is to be written again only if the result differs.
    package static func plan(_ facts: CertificateFacts, name: String, stored: RenewalPlan?) -> RenewalPlan {
        if let stored, stored.certificate == facts.id { return stored }
        return RenewalPlan(certificate: facts.id, at: time(facts, name: name))
    }

    /// The plan after the CA has answered.
    ///
    /// - Parameters:
    ///   - info: nil: the CA has no renewal information.
    ///   - pause: seconds until it may be asked again.
    ///   - random: for a time within a window that is new.
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
                plan.at = max(time(facts, name: name), plan.earliest ?? .earliest)
                plan.window = nil
                plan.explanation = nil
            }
            return plan
        }
        plan.explanation = info.explanation
        let window = RenewalPlan.Window(start: info.start, end: info.end)
        guard plan.window != window else { return plan }
        plan.window = window
        plan.at = min(
            info.start + Int64(random % UInt64(info.end - info.start)),
            latest(facts)
        )
        if let earliest = plan.earliest { plan.at = max(plan.at, earliest) }
        return plan
    }

    /// The plan after the CA could not be asked: what was known stays, and so do the certificate's dates.
    package static func planAfterFailure(_ plan: RenewalPlan, now: UnixTime) -> RenewalPlan {
        var plan = plan
        plan.nextPoll = now + pollPause
        return plan
    }

    /// A window that lies too late is not believed: a tenth of the lifetime is left for tries.
    private static func latest(_ facts: CertificateFacts) -> UnixTime {
        facts.notAfter - max(0, facts.notAfter - facts.notBefore) / 10
    }

    /// The same on every machine and in every process.
    private static func hash(_ name: String) -> Int64 {
        var number: UInt64 = 0
        for byte in SHA256.hash(data: Array(name.utf8)).prefix(8) { number = number << 8 | UInt64(byte) }
        return Int64(number >> 1)
    }
}
