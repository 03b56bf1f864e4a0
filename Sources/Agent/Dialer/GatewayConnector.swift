import HopProtocol
import Logging
import NIOCore
import Observability
import Settings
import Threads
import Transport

/// Keeps one tunnel to one configured gateway: resolves its name, dials, and repeats with back-off when the tunnel
/// ends.
struct GatewayConnector: Sendable {
    let gateway: HostPort
    let context: AgentContext
    let loopState: NIOLoopBound<AgentLoopState>
    /// The event loop of `loopState`.
    let loop: any EventLoop
    let access: GatewayAccess.Polled
    /// Sent when the configuration of `access` has changed.
    let accessChange: AsyncSignal
    let openSessions: OpenSessions
    let counters: TransportCounters
    let metrics: DialerMetrics
    let resolve: AddressResolver.Resolve

    /// Runs until the task is cancelled, the agent drains, or the gateway is not among those of the token's file when
    /// there is no tunnel. The owner supplies the task.
    func run() async {
        var backoff = Backoff()
        var attempts = 0
        var limiter = FailureLogLimiter()
        var configuration = access.value.configuration
        while !isStopping {
            accessChange.clear()
            let newest = access.value.configuration
            guard newest.gateways.contains(gateway) else { return }
            if newest != configuration {
                (configuration, backoff, limiter) = (newest, Backoff(), FailureLogLimiter())
            }
            if attempts > 0 { metrics.reconnects.increment() }
            let outcome = await attempt(attempts)
            attempts += 1
            if isStopping { return }
            let delay: TimeAmount
            switch outcome {
            case .goaway(let spread):
                // A change while the tunnel was open is no reason to return before the other agents of the gateway.
                accessChange.clear()
                delay = .nanoseconds(Int64(Double(spread.nanoseconds) * .random(in: 0..<1)))
            case .silent:
                delay = .zero
            case .suspected:
                metrics.attachFailures[.lost].increment()
                delay = backoff.next(after: .lost, retryAfter: nil, fraction: .random(in: 0..<1))
            case .ended(let failure, let wasLive):
                metrics.attachFailures[failure.kind].increment()
                delay = backoff.next(
                    after: failure.backoff(wasLive: wasLive),
                    retryAfter: failure.retryAfter,
                    fraction: .random(in: 0..<1)
                )
                if wasLive {
                    limiter = FailureLogLimiter()
                    // As with GOAWAY: the newest configuration is read before the next attempt.
                    accessChange.clear()
                }
                if let level = limiter.level(of: failure, now: .now()) {
                    log(failure, level: wasLive ? .warning : level, wasLive: wasLive, delay: delay)
                }
            }
            await accessChange.wait(atMost: .nanoseconds(delay.nanoseconds))
        }
    }

    private var isStopping: Bool { Task.isCancelled || context.isDraining }

    private func log(_ failure: AttachFailure, level: Logger.Level, wasLive: Bool, delay: TimeAmount) {
        var metadata: Logger.Metadata = [
            "gateway": "\(gateway)", "error": "\(failure.kind.rawValue)", "reason": "\(failure.message)",
            "retry_in_ms": "\(delay.nanoseconds / 1_000_000)",
        ]
        if let remedy = failure.remedy { metadata["remedy"] = "\(remedy)" }
        context.log.log(level: level, wasLive ? "tunnel lost" : "attach failed", metadata: metadata)
    }

    /// Dials the addresses of the gateway in turn until one responds. Each attempt starts at another address.
    private func attempt(_ number: Int) async -> GatewaySession.Outcome {
        let addresses: [SocketAddress]
        do {
            addresses = try await resolveGateway()
        } catch {
            let remedy = "Check the gateway's name and this machine's DNS."
            return .ended(AttachFailure(.resolve, "\(error)", remedy: remedy), wasLive: false)
        }
        guard !addresses.isEmpty else {
            return .ended(AttachFailure(.resolve, "\(gateway.host) has no address"), wasLive: false)
        }
        var outcome = GatewaySession.Outcome.silent
        for index in addresses.indices {
            outcome = await attempt(at: addresses[(number + index) % addresses.count])
            guard case .ended(let failure, wasLive: false) = outcome, failure.isAddressSpecific, !isStopping
            else { break }
        }
        return outcome
    }

    /// Resolves the gateway's name. A cancelled task does not wait for the resolver, which cannot be cancelled.
    private func resolveGateway() async throws -> [SocketAddress] {
        let promise = loop.makePromise(of: [SocketAddress].self)
        resolve(gateway, loop).cascade(to: promise)
        return try await withTaskCancellationHandler {
            try await promise.futureResult.get()
        } onCancel: {
            promise.fail(CancellationError())
        }
    }

    private func attempt(at address: SocketAddress) async -> GatewaySession.Outcome {
        let outcome = loop.makePromise(of: GatewaySession.Outcome.self)
        loop.execute { dial(address, outcome) }
        do {
            return try await outcome.futureResult.get()
        } catch {
            return .ended(AttachFailure(.local, "\(error)"), wasLive: false)
        }
    }

    private func dial(_ address: SocketAddress, _ outcome: EventLoopPromise<GatewaySession.Outcome>) {
        guard !context.isDraining else {
            outcome.succeed(.ended(AttachFailure(.local, "the agent is shutting down"), wasLive: false))
            return
        }
        let access = access.value
        let session = GatewaySession(
            gateway: gateway.description,
            token: access.configuration.token,
            loopState: loopState.value,
            openSessions: openSessions,
            metrics: metrics,
            outcome: outcome
        )
        do {
            let tunnel = try TunnelDialer.dial(
                to: address,
                serverName: context.configuration.serverName ?? gateway.host,
                context: access.dtls,
                configuration: TunnelDialerConfiguration(),
                on: loop,
                counters: counters,
                handler: session
            )
            session.begin(tunnel)
        } catch {
            outcome.succeed(.ended(AttachFailure(.unreachable, "cannot dial \(address): \(error)"), wasLive: false))
        }
    }
}
