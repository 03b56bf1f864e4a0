package import Formats

/// The rules of when, and with which CA, an attempt is made after others have failed. All functions are pure; times are
/// by the CA's clock.
package enum RetryPolicy {
    /// The pauses in seconds after the first, second, … consecutive failure. The last one repeats.
    package static let pauses: [Int64] = [60, 300, 900, 3_600, 10_800, 21_600, 43_200]
    /// The longest time in seconds for which a CA may delay the next attempt. The longest limits of public CAs are
    /// weekly.
    package static let longestHold: Int64 = 8 * 86_400
    static let day: Int64 = 86_400

    package enum Next: Equatable, Sendable {
        /// Order from the CA with this directory URL.
        case attempt(authority: String)
        case wait(until: UnixTime)
        /// Wait until a CA that is closed for all names opens, at most until this time.
        case blocked(until: UnixTime)
    }

    /// Decides whether an attempt is made now.
    ///
    /// - Parameters:
    ///   - authorities: The directory URLs in the order of the configuration, at least one.
    ///   - settings: A hash of what the outcome depends on: challenges, account, profile, names. With other settings
    ///     than the stored ones only the holds of the CAs apply.
    ///   - closed: The CAs that accept no orders at the moment; see ``AuthorityGate``.
    package static func next(
        _ state: RenewalState,
        authorities: [String],
        settings: String,
        closed: Set<String> = [],
        now: UnixTime
    ) -> Next {
        precondition(!authorities.isEmpty, "there is at least one CA")
        if let nextTry = state.nextTry, now < nextTry, state.settings == settings { return .wait(until: nextTry) }
        let held = authorities.filter { now < state.holds[$0] ?? now }
        if let authority = authorities.first(where: { !closed.contains($0) && !held.contains($0) }) {
            return .attempt(authority: authority)
        }
        let until = held.compactMap { state.holds[$0] }.min() ?? .latest
        return held.count < authorities.count ? .blocked(until: until) : .wait(until: until)
    }

    /// Returns the state after a failed attempt.
    ///
    /// An outage or a rate limit concerns the CA: it is not used for a while, and the next one in the list may be tried
    /// at once. Any other failure concerns the name: no CA is tried for a while.
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

    /// Returns the state after a CA has limited the rate of the account, which is no failure of the name: the CA's time
    /// applies to it, in case the limit is one of the name after all.
    package static func limited(
        _ failure: ACMEFailure,
        authority: String,
        state: RenewalState,
        now: UnixTime
    ) -> RenewalState {
        guard failure.code == .rateLimited, case .notBefore(let time) = failure.retry else { return state }
        var state = state
        state.holds = state.holds.filter { $0.value > now }
        state.holds[authority] = min(time, now + longestHold)
        state.lastError = RenewalState.LastError(failure, authority: authority, at: now)
        return state
    }

    /// Returns the state after a certificate was issued.
    package static func succeeded(authority: String, state: RenewalState) -> RenewalState {
        var state = state
        state.failures = 0
        state.nextTry = nil
        state.lastError = nil
        state.settings = nil
        state.holds[authority] = nil
        return state
    }

    /// Computes the pause after a failure, in seconds.
    static func pause(_ failure: ACMEFailure, failures: Int, now: UnixTime, random: UInt64) -> Int64 {
        let backOff = pause(failures: failures, random: random)
        switch failure.retry {
        case .backOff: return backOff
        // Never less than a day.
        case .afterADay: return day + Int64(random % UInt64(day / 5))
        case .notBefore(let time):
            let hold = min(max(0, time - now), longestHold)
            // Attempts that wait for the same time are spread over 30 seconds.
            let spread = Int64(random % 30)
            // After the third failure a short `Retry-After` of a rate limit is not relied on any more.
            return failure.code == .rateLimited && failures <= 3 ? hold + spread : max(backOff, hold + spread)
        }
    }

    /// Computes the back-off in seconds, with ± 20 % of jitter.
    ///
    /// - Parameter failures: The number of consecutive failures, including the last one.
    package static func pause(failures: Int, random: UInt64) -> Int64 {
        let whole = pauses[min(max(failures, 1), pauses.count) - 1]
        return whole * 4 / 5 + Int64(random % UInt64(whole * 2 / 5 + 1))
    }
}
