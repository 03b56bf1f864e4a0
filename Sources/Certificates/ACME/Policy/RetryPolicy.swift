package import Formats

/// When an attempt for a name is made after others have failed, and with which CA. Pure functions of what is stored and
/// of the CA's clock.
package enum RetryPolicy {
    /// Seconds after the first, second, … failure in a row; the last one repeats.
    package static let pauses: [Int64] = [60, 300, 900, 3_600, 10_800, 21_600, 43_200]
    /// Seconds after a refusal for the rate, if the CA names no time.
    package static let rateLimitPause: Int64 = 3_600
    /// What a CA may keep us waiting at most; the longest limits of public CAs count by the week.
    package static let longestHold: Int64 = 8 * 86_400
    static let day: Int64 = 86_400

    package enum Next: Equatable, Sendable {
        /// Try it with this CA: its directory URL.
        case attempt(authority: String)
        case wait(until: UnixTime)
    }

    /// What to do now.
    ///
    /// - Parameters:
    ///   - authorities: directory URLs in the order of the configuration, at least one.
    ///   - settings: a hash of what the outcome depends on: challenges, account, profile, names. With other settings
    ///     than the stored ones only the CAs' holds count.
    package static func next(_ state: RenewalState, authorities: [String], settings: String, now: UnixTime) -> Next {
        precondition(!authorities.isEmpty, "there is at least one CA")
        if let nextTry = state.nextTry, now < nextTry, state.settings == settings { return .wait(until: nextTry) }
        for authority in authorities where state.holds[authority].map({ $0 <= now }) ?? true {
            return .attempt(authority: authority)
        }
        return .wait(until: authorities.compactMap { state.holds[$0] }.min() ?? now)
    }

    /// The state after an attempt has failed.
    ///
    /// An outage or a rate limit is the CA's: it is left alone for a while, and the next one in the list may be tried
    /// at once. Everything else is the name's: no CA is tried for a while.
    package static func failed(
        _ failure: ACMEFailure,
        authority: String,
        state: RenewalState,
        settings: String,
        now: UnixTime,
        random: UInt64
    ) -> RenewalState {
        var state = state
        state.failures = min(state.failures + 1, 1_000_000)
        state.lastError = RenewalState.LastError(failure, authority: authority, at: now)
        state.holds = state.holds.filter { $0.value > now }
        state.settings = settings
        state.nextTry = nil
        let until = now + pause(failure, failures: state.failures, now: now, random: random)
        if failure.mayTryNextAuthority {
            state.holds[authority] = max(until, state.holds[authority] ?? until)
        } else {
            state.nextTry = until
        }
        return state
    }

    /// The state after a certificate was issued.
    package static func succeeded(authority: String, state: RenewalState) -> RenewalState {
        var state = state
        state.failures = 0
        state.nextTry = nil
        state.lastError = nil
        state.settings = nil
        state.holds[authority] = nil
        return state
    }

    /// Seconds.
    static func pause(_ failure: ACMEFailure, failures: Int, now: UnixTime, random: UInt64) -> Int64 {
        let backOff = pause(failures: failures, random: random)
        switch failure.retry {
        case .backOff: return backOff
        // Never less than a day.
        case .afterADay: return day + Int64(random % UInt64(day / 5))
        case .notBefore(let time):
            let hold = min(max(0, time - now), longestHold)
            // All that wait for the same time do not come at the same second.
            let spread = Int64(random % 30)
            // A CA that says "in a moment" again and again is not believed for ever.
            return failure.code == .rateLimited && failures <= 3 ? hold + spread : max(backOff, hold + spread)
        }
    }

    /// ± 20 %.
    ///
    /// - Parameter failures: in a row, with this one.
    package static func pause(failures: Int, random: UInt64) -> Int64 {
        let whole = pauses[min(max(failures, 1), pauses.count) - 1]
        return whole * 4 / 5 + Int64(random % UInt64(whole * 2 / 5 + 1))
    }
}
