import Credentials
package import NIOCore
import NIOHTTP1
package import Observability
import Synchronization

/// Decides which requests to the admin port are authorised, and limits the rate of wrong tokens per client address.
package final class AdminAccess: Sendable {
    package enum Verdict: Equatable, Sendable {
        case granted
        /// The request has no token.
        case missing
        /// The token is wrong.
        case wrong
        /// The token is wrong, and this address has sent too many wrong tokens. Associated value: the time to wait.
        case limited(TimeAmount)
    }

    /// The rejections that are counted. The raw values are label values of a metric.
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

    /// Checks the token of a request. A correct token is accepted even if the limit of its address is exceeded.
    package func check(_ request: ResponderRequest, now: NIODeadline) -> Verdict {
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

    /// The token of an Authorization field, or `nil`. The name of the scheme is case-insensitive (RFC 9110 §11.1).
    private static func bearer(_ value: String) -> String? {
        let parts = value.split(separator: " ", maxSplits: 1)
        guard parts.count == 2, parts[0].lowercased() == "bearer" else { return nil }
        return String(parts[1].drop { $0 == " " })
    }
}
