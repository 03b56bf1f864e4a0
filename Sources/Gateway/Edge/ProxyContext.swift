import HopProtocol
import NIOCore
import NIOHTTP1
import Observability
import Synchronization

/// What every public connection uses: immutable, shared by all loops.
final class ProxyContext: Sendable {
    let limits: EdgeLimits
    let metrics: GatewayMetrics
    let router: Router
    let registry: AgentRegistry
    let lifecycle: Lifecycle
    /// Validations of CAs that the HTTPS listener answers.
    let challenges: ALPNChallenges
    /// Validations that both listeners answer; nil: the gateway has no business with CAs, and the path of challenges is
    /// one like any other.
    let httpChallenges: HTTPChallenges?
    /// nil: no access lines are written.
    let accessLog: AccessLog?
    /// Where plain HTTP is sent to.
    let httpsPort: Atomic<Int>
    let connections = Atomic<Int>(0)

    init(
        limits: EdgeLimits,
        metrics: GatewayMetrics,
        router: Router,
        registry: AgentRegistry,
        lifecycle: Lifecycle,
        challenges: ALPNChallenges,
        httpChallenges: HTTPChallenges?,
        accessLog: AccessLog?
    ) {
        self.limits = limits
        self.metrics = metrics
        self.router = router
        self.registry = registry
        self.lifecycle = lifecycle
        self.challenges = challenges
        self.httpChallenges = httpChallenges
        self.accessLog = accessLog
        self.httpsPort = Atomic(443)
    }

    /// A request that became an exchange is over.
    func record(_ exchange: ProxyExchange, refusal: ProxyError?) {
        let now = NIODeadline.now()
        let request = exchange.request
        let duration = now - exchange.started
        let firstByte = exchange.firstByte.map { $0 - exchange.started }
        metrics.inFlight.decrement()
        metrics.duration.observe(duration)
        if let firstByte { metrics.timeToFirstByte.observe(firstByte) }
        if exchange.bytesIn > 0 { metrics.requestBytes.increment(by: exchange.bytesIn) }
        if exchange.bytesOut > 0 { metrics.responseBytes.increment(by: exchange.bytesOut) }
        if let refusal { metrics.error(refusal) }
        let isHTTP10 = request.version == .http1_0
        exchange.home.count(exchange.status, method: request.method, isHTTP10: isHTTP10, in: metrics.registry)
        guard let accessLog else { return }
        accessLog.write(
            AccessRecord(
                requestID: exchange.idText,
                client: exchange.identity.address,
                agent: exchange.agent ?? exchange.match?.target.agent,
                service: exchange.match?.target.service,
                route: exchange.match?.target.label,
                method: request.method,
                host: request.host,
                path: String(request.path),
                httpVersion: isHTTP10 ? "HTTP/1.0" : "HTTP/1.1",
                status: exchange.status,
                bytesIn: exchange.bytesIn,
                bytesOut: exchange.bytesOut,
                duration: duration,
                timeToFirstByte: firstByte,
                error: refusal?.rawValue
            )
        )
    }

    /// What the edge answered without an exchange.
    func record(_ answer: EdgeAnswer, home: EdgeLoopState) {
        if let refusal = answer.refusal { metrics.error(refusal) }
        let isHTTP10 = answer.httpVersion == "HTTP/1.0"
        home.count(answer.status, method: answer.method, isHTTP10: isHTTP10, in: metrics.registry)
        accessLog?.write(
            AccessRecord(
                requestID: answer.requestID,
                client: answer.client,
                method: answer.method,
                host: answer.host,
                path: answer.path,
                httpVersion: answer.httpVersion,
                status: answer.status,
                bytesIn: 0,
                bytesOut: 0,
                duration: .zero,
                error: answer.refusal?.rawValue
            )
        )
    }
}

/// Where the process stands between start and end; read on every loop.
package final class Lifecycle: Sendable {
    package enum Stage: UInt8, Comparable, Sendable {
        case starting
        case active
        /// SIGTERM came: no new keep-alive, `/readyz` says no.
        case draining

        package static func < (left: Stage, right: Stage) -> Bool { left.rawValue < right.rawValue }
    }

    private let current = Atomic<UInt8>(0)

    package init() {}

    package var stage: Stage {
        get { Stage(rawValue: current.load(ordering: .relaxed)) ?? .draining }
        set { current.store(newValue.rawValue, ordering: .relaxed) }
    }

    package var isDraining: Bool { stage == .draining }
}
