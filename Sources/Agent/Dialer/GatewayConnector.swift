import DTLS
import HopProtocol
import Logging
import NIOCore
import Observability
import Settings
import Transport

/// Keeps one tunnel to one configured gateway address: resolves, dials, and again with back-off when it ends. Its
/// owner supplies the task.
struct GatewayConnector: Sendable {
    let gateway: HostPort
    let shared: AgentShared
    let owner: NIOLoopBound<OriginLoop>
    let loop: any EventLoop
    let context: DTLSContext
    let registry: OpenSessions
    let counters: TransportCounters
    let resolve: AddressResolver.Resolve

    /// Returns when the task is cancelled or the agent drains.
    func run() async {
        var backoff = Backoff()
        var attempts = 0
        var repeated = RepeatedFailure()
        while !isOver {
            if attempts > 0 { shared.metrics.reconnects.increment() }
            let outcome = await attempt(attempts)
            attempts += 1
            if isOver { return }
            let delay: TimeAmount
            switch outcome {
            case .goaway(let spread):
                delay = .nanoseconds(Int64(Double(spread.nanoseconds) * .random(in: 0..<1)))
            case .silent:
                delay = .zero
            case .ended(let failure, let wasLive):
                shared.metrics.attachFailures[failure.kind].increment()
                delay = backoff.next(
                    after: failure.backoff(wasLive: wasLive),
                    retryAfter: failure.retryAfter,
                    fraction: .random(in: 0..<1)
                )
                if wasLive { repeated = RepeatedFailure() }
                if repeated.shouldSay(failure, now: .now()) { say(failure, wasLive: wasLive, delay: delay) }
            }
            do { try await Task.sleep(for: .nanoseconds(delay.nanoseconds)) } catch { return }
        }
    }

    private var isOver: Bool { Task.isCancelled || shared.isDraining }

    private func say(_ failure: AttachFailure, wasLive: Bool, delay: TimeAmount) {
        var metadata: Logger.Metadata = [
            "gateway": "\(gateway)", "error": "\(failure.kind.rawValue)", "reason": "\(failure.message)",
            "retry_in_ms": "\(delay.nanoseconds / 1_000_000)",
        ]
        if let remedy = failure.remedy { metadata["remedy"] = "\(remedy)" }
        if wasLive {
            shared.log.warning("the tunnel ended", metadata: metadata)
        } else {
            shared.log.error("cannot attach to the gateway", metadata: metadata)
        }
    }

    /// One attempt: at each of the name's addresses until one answers. Which comes first changes from try to try.
    private func attempt(_ number: Int) async -> GatewaySession.Outcome {
        let addresses: [SocketAddress]
        do {
            addresses = try await look()
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
            guard case .ended(let failure, wasLive: false) = outcome, failure.isOfAddress, !isOver else { break }
        }
        return outcome
    }

    /// The resolver knows no cancellation; nobody waits for it when the agent stops.
    private func look() async throws -> [SocketAddress] {
        let answer = loop.makePromise(of: [SocketAddress].self)
        resolve(gateway, loop).cascade(to: answer)
        return try await withTaskCancellationHandler {
            try await answer.futureResult.get()
        } onCancel: {
            answer.fail(CancellationError())
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
        guard !shared.isDraining else {
            outcome.succeed(.ended(AttachFailure(.local, "the agent stops"), wasLive: false))
            return
        }
        let session = GatewaySession(
            gateway: gateway.description,
            owner: owner.value,
            registry: registry,
            outcome: outcome
        )
        do {
            let tunnel = try TunnelDialer.dial(
                to: address,
                serverName: shared.configuration.serverName ?? gateway.host,
                context: context,
                configuration: TunnelDialerConfiguration(),
                on: loop,
                counters: counters,
                handler: session
            )
            session.begin(tunnel)
        } catch {
            outcome.succeed(.ended(AttachFailure(.unreachable, "cannot dial: \(error)"), wasLive: false))
        }
    }
}

/// A failure that repeats is said once, and then once a minute.
struct RepeatedFailure {
    static let interval = TimeAmount.minutes(1)

    private var last: (kind: AttachFailure.Kind, message: String, at: NIODeadline)?

    mutating func shouldSay(_ failure: AttachFailure, now: NIODeadline) -> Bool {
        if let last, last.kind == failure.kind, last.message == failure.message, now - last.at < Self.interval {
            return false
        }
        last = (failure.kind, failure.message, now)
        return true
    }
}
