import Certificates
import Formats
import Store
import Synchronization

/// Wishes for new certificates that came by the admin port, and what became of them: whoever asks has a number, and looks
/// again until it is done.
final class RenewalJobs: Sendable {
    /// The oldest are forgotten.
    private static let limit = 256

    private struct State {
        var last: UInt64 = 0
        var outcomes: [UInt64: RenewalOutcome?] = [:]
    }

    private let state = Mutex(State())

    /// A new one; `resolve` is to be called once.
    func make() -> (number: UInt64, resolve: @Sendable (RenewalOutcome) -> Void) {
        let number = state.withLock { state in
            state.last += 1
            state.outcomes[state.last] = .some(nil)
            if state.outcomes.count > Self.limit { state.outcomes[state.last - UInt64(Self.limit)] = nil }
            return state.last
        }
        return (
            number,
            { outcome in
                self.state.withLock { state in
                    if state.outcomes[number] != nil { state.outcomes[number] = outcome }
                }
            }
        )
    }

    func drop(_ number: UInt64) { state.withLock { $0.outcomes[number] = nil } }

    /// Nil if there is no such one, or it was forgotten.
    func report(_ number: UInt64) -> [String: JSONValue]? {
        guard let outcome = state.withLock({ $0.outcomes[number] }) else { return nil }
        var fields: [String: JSONValue] = ["ticket": .integer(Int64(clamping: number))]
        switch outcome {
        case nil: fields["state"] = .string("ordering")
        case .issued(let notAfter)?:
            fields["state"] = .string("issued")
            fields["not_after"] = .string(notAfter.rfc3339)
        case .failed(let failure)?:
            fields["state"] = .string("failed")
            fields["code"] = .string(failure.code.rawValue)
            fields["error"] = .string("\(failure)")
        case .held(let until, let reason)?:
            fields["state"] = .string("held")
            fields["until"] = .string(until.rfc3339)
            fields["error"] = .string(reason)
        case .trouble(let reason)?:
            fields["state"] = .string("failed")
            fields["error"] = .string(reason)
        }
        return fields
    }
}
