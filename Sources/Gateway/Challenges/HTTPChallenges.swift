package import ACME
import Certificates
package import Logging
package import NIOCore
package import Observability
package import Store

/// Answers HTTP-01 validators (RFC 8555 §8.3) on every replica.
///
/// A validator may reach a replica that has not yet heard of a challenge which another replica has just presented. So a
/// token that is not in memory is read from the store by a ``StoreLookup``, within its limits: an HTTP connection calls
/// ``token(in:)`` and ``lookUp(_:for:on:now:)`` on its event loop, and counts the result with ``count(_:)`` or
/// ``recordAnswer(_:client:)``.
///
/// A request for an unknown token is then handled as any other request, since a service behind the gateway may have an
/// ACME client of its own; if no route matches, the client receives 404.
package final class HTTPChallenges: Sendable {
    package enum Result: String, CaseIterable, Sendable {
        case answered
        /// The token belongs to no challenge of this cluster.
        case unknown
    }

    package enum Lookup {
        /// The challenge, or `nil` if the token is unknown.
        case known(ChallengeTask?)
        /// The store is being read; the future belongs to the loop of the request.
        case pending(EventLoopFuture<ChallengeTask?>)
    }

    package static let path = "/.well-known/acme-challenge/"

    private let pending: PendingChallenges
    private let lookup: StoreLookup
    private let logger: Logger
    private let results: CounterTable<Result>

    package init(pending: PendingChallenges, store: any Store, metrics: MetricsRegistry, logger: Logger) {
        self.pending = pending
        lookup = StoreLookup(store: store) { token throws(StoreError) in
            let key = ChallengeTask.storeKey(token: token)
            // A value that cannot be used is logged by the watch.
            pending.insert(try await store.read(key, within: StoreLookup.timeout), at: key)
        }
        self.logger = logger
        results = metrics.counters(
            "acme_http_challenges_total",
            help: "Requests for HTTP-01 challenges by result; unknown ones were forwarded like other requests.",
            label: "result",
            by: Result.self
        )
    }

    /// The token in a request's path, or `nil` if it is not the path of a challenge.
    package static func token(in path: Substring) -> String? {
        guard path.hasPrefix(Self.path) else { return nil }
        let token = path.dropFirst(Self.path.count)
        return ACMEChallenge.isToken(token) ? String(token) : nil
    }

    /// Looks a token up in memory, and otherwise starts to read it from the store.
    ///
    /// - Parameter loop: The loop of the request, on which a pending result is delivered.
    package func lookUp(
        _ token: String,
        for client: SocketAddress?,
        on loop: any EventLoop,
        now: NIODeadline
    ) -> Lookup {
        if let task = pending.http(token) { return .known(task) }
        let pending = pending
        let read = lookup.read(token, for: client, on: loop, now: now)
        return read.map { .pending($0.map { pending.http(token) }) } ?? .known(nil)
    }

    package func count(_ result: Result) { results[result].increment() }

    /// Counts and logs an answered request.
    package func recordAnswer(_ answer: ChallengeTask, client: String) {
        count(.answered)
        logger.debug("HTTP-01 challenge answered", metadata: ["name": "\(answer.name)", "client": "\(client)"])
    }

    /// Performs the reads until the task is cancelled. Called once, by ``SharedChallenges/run()``.
    package func run() async { await lookup.run() }
}
