import Certificates
package import Logging
package import NIOCore
package import Observability
package import Store
import Synchronization

/// Answers validators of HTTP-01 (RFC 8555 section 8.3) on every replica: from memory at once, or after one look at the
/// store, which a replica needs that has not heard of the challenge yet.
///
/// What is not known here goes on as any other request: a service behind the gateway may have an ACME client of its own.
/// Where nothing is routed that ends as 404.
///
/// Loops ask; ``run()`` reads. Reading is bounded: anybody may ask for tokens.
package final class HTTPChallenges: Sendable {
    package enum Result: String, CaseIterable, Sendable {
        case answered
        /// A token that is none of ours.
        case unknown
        /// Too many tokens were looked for at the same time.
        case busy
    }

    package enum Outcome: Sendable {
        case answer(ChallengeTable.Answer)
        case unknown
    }

    package enum Find {
        case known(Outcome)
        /// The store is asked; the answer comes on the loop that asked.
        case pending(EventLoopFuture<Outcome>)
        case busy
    }

    package static let path = "/.well-known/acme-challenge/"
    /// Tokens that are looked for at once.
    package static let reads = 32
    /// Requests that wait for one of them.
    package static let waiters = 1_024
    /// For one look.
    package static let deadline = TimeAmount.seconds(2)
    /// A token that is not in the store is not looked for again for so long.
    package static let unknownFor = TimeAmount.milliseconds(250)
    package static let unknownLimit = 1_024

    private struct State {
        /// Who waits for which token.
        var reading: [String: [EventLoopPromise<Outcome>]] = [:]
        var unknown: [String: NIODeadline] = [:]
        var isClosed = false
    }

    private let table: ChallengeTable
    private let store: any Store
    private let logger: Logger
    private let results: CounterTable<Result>
    private let state = Mutex(State())
    private let (wanted, want) = AsyncStream<String>.makeStream()

    package init(table: ChallengeTable, store: any Store, metrics: MetricsRegistry, logger: Logger) {
        self.table = table
        self.store = store
        self.logger = logger
        results = metrics.counters(
            "acme_http_challenges_total",
            help: "Requests for HTTP-01 challenges by result; unknown ones went on as any other request.",
            label: "result",
            by: Result.self
        )
    }

    // MARK: On the loops

    /// The token that a path asks for; nil: the path is none of a challenge, and nothing is looked for.
    package static func token(in path: Substring) -> String? {
        guard path.hasPrefix(Self.path) else { return nil }
        let token = path.dropFirst(Self.path.count)
        return ACMEChallenge.isToken(token) ? String(token) : nil
    }

    package func find(_ token: String, on loop: any EventLoop, now: NIODeadline) -> Find {
        if let answer = table.answer(token) { return .known(.answer(answer)) }
        // A store in trouble is not waited for: a service's own client is to work meanwhile.
        switch store.state {
        case .stalled, .gone: return .known(.unknown)
        case .healthy, .readOnly, .full: break
        }
        let (find, isFirst) = state.withLock { state -> (Find, Bool) in
            guard !state.isClosed else { return (.known(.unknown), false) }
            if let end = state.unknown[token] {
                guard end <= now else { return (.known(.unknown), false) }
                state.unknown[token] = nil
            }
            let others = state.reading[token]
            // Those who ask for the same wait together.
            guard others.map({ $0.count < Self.waiters }) ?? (state.reading.count < Self.reads) else {
                return (.busy, false)
            }
            let promise = loop.makePromise(of: Outcome.self)
            state.reading[token, default: []].append(promise)
            return (.pending(promise.futureResult), others == nil)
        }
        if isFirst { want.yield(token) }
        return find
    }

    package func count(_ result: Result) { results[result].increment() }

    /// Says once for each challenge that a CA came for it.
    package func answered(_ answer: ChallengeTable.Answer, client: String) {
        count(.answered)
        guard answer.isFirst else { return }
        logger.debug("an HTTP-01 challenge is answered", metadata: ["name": "\(answer.name)", "client": "\(client)"])
    }

    // MARK: Off the loops

    /// Reads what the loops want to know until the task is cancelled; nobody waits after that.
    package func run() async {
        await withDiscardingTaskGroup { group in
            for await token in wanted { group.addTask { await self.read(token) } }
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
            let stored = try await store.read(key, within: Self.deadline)
            // What is wrong there is told by whoever follows the folder.
            if let task = try? ChallengeTask(document: stored.bytes, at: key) {
                _ = table.take(task)
            } else {
                isMissing = true
            }
        } catch {
            // Whatever else went wrong may be well in a moment.
            isMissing = error.code == .notFound
        }
        let outcome = table.answer(token).map { Outcome.answer($0) } ?? .unknown
        let end = NIODeadline.now() + Self.unknownFor
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
