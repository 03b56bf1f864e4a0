import ACME
import Certificates
package import Logging
package import NIOCore
package import Observability
package import Store
import Synchronization

/// Answers HTTP-01 validators (RFC 8555 §8.3) on every replica.
///
/// A validator may reach a replica that has not yet polled the store for a challenge which another replica has just
/// presented. So the path of a request is:
///
/// 1. An HTTP connection calls ``token(in:)`` and ``lookUp(_:on:now:)`` on its event loop. A challenge in the
///    ``ChallengeTable`` is answered at once.
/// 2. Otherwise the token is handed to ``run()``, which reads its value from the store, off the event loops. Requests for
///    the same token share one read. The returned future is completed on the loop of the request.
/// 3. The connection counts the result with ``count(_:)`` or ``recordAnswer(_:client:)``.
///
/// A request for an unknown token is then handled as any other request, since a service behind the gateway may have an
/// ACME client of its own; if no route matches, the client receives 404.
///
/// Any client can ask for any token. The number of concurrent reads, of requests that wait for them, and of tokens that
/// are remembered as unknown are therefore bounded.
package final class HTTPChallenges: Sendable {
    package enum Result: String, CaseIterable, Sendable {
        case answered
        /// The token belongs to no challenge of this cluster.
        case unknown
        /// Too many tokens were being looked up at the same time.
        case busy
    }

    package enum Outcome: Sendable {
        case answer(ChallengeTable.Answer)
        case unknown
    }

    package enum Lookup {
        case known(Outcome)
        /// The store is being read; the future belongs to the loop of the request.
        case pending(EventLoopFuture<Outcome>)
        case busy
    }

    package static let path = "/.well-known/acme-challenge/"
    /// The maximum number of tokens that are looked up in the store at the same time.
    package static let readLimit = 32
    /// The maximum number of requests that wait for the same token.
    package static let waiterLimit = 1_024
    /// The timeout of one read.
    package static let readTimeout = TimeAmount.seconds(2)
    /// The time for which a token that is not in the store is not looked up again.
    package static let unknownLifetime = TimeAmount.milliseconds(250)
    /// The maximum number of tokens that are remembered as unknown.
    package static let unknownLimit = 1_024

    private struct State {
        /// The requests that wait for each token.
        var reading: [String: [EventLoopPromise<Outcome>]] = [:]
        /// The unknown tokens, each with the time at which it may be looked up again.
        var unknown: [String: NIODeadline] = [:]
        var isClosed = false
    }

    private let table: ChallengeTable
    private let store: any Store
    private let logger: Logger
    private let results: CounterTable<Result>
    private let state = Mutex(State())
    private let (tokens, tokenContinuation) = AsyncStream<String>.makeStream()

    package init(table: ChallengeTable, store: any Store, metrics: MetricsRegistry, logger: Logger) {
        self.table = table
        self.store = store
        self.logger = logger
        results = metrics.counters(
            "acme_http_challenges_total",
            help: "Requests for HTTP-01 challenges by result; unknown ones were forwarded like other requests.",
            label: "result",
            by: Result.self
        )
    }

    // MARK: On the event loops

    /// The token in a request's path, or `nil` if it is not the path of a challenge.
    package static func token(in path: Substring) -> String? {
        guard path.hasPrefix(Self.path) else { return nil }
        let token = path.dropFirst(Self.path.count)
        return ACMEChallenge.isToken(token) ? String(token) : nil
    }

    /// Looks a token up in memory, and otherwise starts to read it from the store.
    ///
    /// - Parameter loop: The loop of the request, on which a pending result is delivered.
    package func lookUp(_ token: String, on loop: any EventLoop, now: NIODeadline) -> Lookup {
        if let answer = table.answer(token) { return .known(.answer(answer)) }
        // While the store is in trouble the ACME client of a service has to work without delay.
        switch store.state {
        case .stalled, .gone: return .known(.unknown)
        case .healthy, .readOnly, .full: break
        }
        let (lookup, isFirst) = state.withLock { state -> (Lookup, Bool) in
            guard !state.isClosed else { return (.known(.unknown), false) }
            if let end = state.unknown[token] {
                guard end <= now else { return (.known(.unknown), false) }
                state.unknown[token] = nil
            }
            let others = state.reading[token]
            // Requests for the same token share one read.
            guard others.map({ $0.count < Self.waiterLimit }) ?? (state.reading.count < Self.readLimit) else {
                return (.busy, false)
            }
            let promise = loop.makePromise(of: Outcome.self)
            state.reading[token, default: []].append(promise)
            return (.pending(promise.futureResult), others == nil)
        }
        if isFirst { tokenContinuation.yield(token) }
        return lookup
    }

    package func count(_ result: Result) { results[result].increment() }

    /// Counts an answered request, and logs the first one for each challenge.
    package func recordAnswer(_ answer: ChallengeTable.Answer, client: String) {
        count(.answered)
        guard answer.isFirst else { return }
        logger.debug("HTTP-01 challenge answered", metadata: ["name": "\(answer.name)", "client": "\(client)"])
    }

    // MARK: Off the event loops

    /// Reads the requested tokens from the store until the task is cancelled, then completes all waiting requests as
    /// unknown. Called once, by ``SharedChallenges/run()``.
    package func run() async {
        await withDiscardingTaskGroup { group in
            for await token in tokens { group.addTask { await self.read(token) } }
        }
        let waiting = state.withLock { state in
            defer { state.reading = [:] }
            state.isClosed = true
            return state.reading.values.flatMap { $0 }
        }
        for promise in waiting { promise.succeed(.unknown) }
    }

    private func read(_ token: String) async {
        let key = ChallengeTask.storeKey(token: token)
        var isMissing = false
        do throws(StoreError) {
            let stored = try await store.read(key, within: Self.readTimeout)
            // A value that cannot be parsed is logged by the poll of the folder.
            if let task = try? ChallengeTask(document: stored.bytes, at: key) {
                _ = table.insert(task)
            } else {
                isMissing = true
            }
        } catch {
            // Other failures may be transient, so the next request reads again.
            isMissing = error.code == .notFound
        }
        let outcome = table.answer(token).map { Outcome.answer($0) } ?? .unknown
        let end = NIODeadline.now() + Self.unknownLifetime
        let waiting = state.withLock { state in
            if isMissing {
                if state.unknown.count >= Self.unknownLimit { state.unknown.removeAll() }
                state.unknown[token] = end
            }
            return state.reading.removeValue(forKey: token) ?? []
        }
        for promise in waiting { promise.succeed(outcome) }
    }
}
