package import NIOCore
import NIOHTTP1
package import Observability
import Synchronization

/// Judges who may use the admin port.
package final class AdminAccess: Sendable {
    package enum Verdict: Equatable, Sendable {
        case granted
        /// There was no token.
        case missing
        case wrong
        /// Wrong, and too often from this address.
        case limited(TimeAmount)
    }

    /// What is counted; raw values are label values.
    package enum Failure: String, CaseIterable, Sendable {
        case missing
        case wrong
        case limited
    }

    private let tokens: AdminTokens
    private let limiter = Mutex(FailureLimiter(capacity: 1_024))
    private let onFailure: @Sendable (Failure) -> Void

    package init(tokens: AdminTokens, onFailure: @escaping @Sendable (Failure) -> Void = { _ in }) {
        self.tokens = tokens
        self.onFailure = onFailure
    }

    /// A correct token is granted whatever others from the same address have done.
    package func judge(_ request: ResponderRequest, now: NIODeadline) -> Verdict {
        let values = request.fields["authorization"]
        guard values.count == 1, let token = Self.bearer(values[0]) else {
            onFailure(.missing)
            return .missing
        }
        if tokens.accepts(token) { return .granted }
        let wait = request.remote.flatMap { address in
            limiter.withLock { $0.fail(AddressKey(address), id: nil, now: now) }
        }
        onFailure(wait == nil ? .wrong : .limited)
        return wait.map { .limited($0) } ?? .wrong
    }

    /// The scheme's name is not case-sensitive (RFC 9110 section 11.1).
    private static func bearer(_ value: String) -> String? {
        let parts = value.split(separator: " ", maxSplits: 1)
        guard parts.count == 2, parts[0].lowercased() == "bearer" else { return nil }
        return String(parts[1].drop { $0 == " " })
    }
}
