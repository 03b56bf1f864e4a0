import HopProtocol
import Logging
import NIOCore
import Observability
import Transport
import Tunnel

/// One tunnel to a gateway, from the dial to its close: sends HELLO, waits for WELCOME, and creates an
/// ``OriginExchange`` for each stream.
///
/// Confined to one event loop. ``GatewayConnector`` creates a session, calls ``begin(_:)`` with the new tunnel and
/// waits for its ``Outcome``; the tunnel calls the methods of `SessionHandler` and, for the control stream, those of
/// `StreamHandler`; a shutdown calls ``drain(deadline:)`` and ``close()`` through ``OpenSessions``. The states are
/// those of `State`: connecting, awaitingWelcome, live, draining, closed, in this order, of which any may be followed
/// by closed. The outcome is reported when the tunnel closes, and already while it is open if the gateway sends GOAWAY,
/// becomes silent or may have lost the tunnel: the connector then dials beside it. A tunnel that is replaced like this
/// is retired when the new one is welcomed (``retire(gateway:newer:)``), and not before: its gateway may only be busy.
final class GatewaySession {
    /// The result of an attempt to attach, reported once to the ``GatewayConnector``. The session may outlive it.
    enum Outcome: Sendable {
        /// The tunnel closed, or was never live.
        case ended(AttachFailure, wasLive: Bool)
        /// The gateway asks the agent to attach elsewhere within `spread`; requests in flight continue on this tunnel.
        case goaway(spread: TimeAmount)
        /// The gateway is silent: it may be gone, or the agent's address may have changed.
        case silent
        /// The gateway may have lost the tunnel: there was an indication, and no answer to a PING.
        case suspected
    }

    private enum State {
        /// The DTLS handshake is in progress.
        case connecting
        /// HELLO was sent.
        case awaitingWelcome
        case live
        /// Either side has sent GOAWAY: no new requests arrive.
        case draining
        case closed
    }

    /// The time from the dial to the end of the handshake. The next attempt uses a new source port, since a dead path
    /// can be bound to the old one.
    static let dialTimeout = TimeAmount.seconds(5)
    /// The time from HELLO to WELCOME.
    static let welcomeTimeout = TimeAmount.seconds(5)
    static let livenessInterval = TimeAmount.milliseconds(500)
    /// The time without any packet after which an unresponsive tunnel is replaced by a new attempt.
    static let silenceTimeout = TimeAmount.seconds(2)
    /// The time without any packet after which an unresponsive tunnel is closed.
    static let closeTimeout = TimeAmount.seconds(10)
    static let defaultKeepAlive = TimeAmount.seconds(1)
    /// The time in which a replaced tunnel must acknowledge GOAWAY, and without requests after which it closes.
    static let retirementTimeout = TimeAmount.seconds(2)
    /// The time in which the requests of a replaced tunnel must end.
    static let retirementLimit = TimeAmount.hours(1)

    let gateway: String
    private let token: AgentToken
    private let loopState: AgentLoopState
    private let context: AgentContext
    private let metrics: DialerMetrics
    private let openSessions: OpenSessions
    private let attachNumber: UInt64
    private let outcome: EventLoopPromise<Outcome>
    private var hasReported = false
    /// The time since which the gateway does not respond, or `nil` while it does.
    private var unresponsiveSince: NIODeadline?
    /// Whether the connector dials again because the gateway did not respond.
    private var isBeingReplaced = false
    /// The time at which the tunnel was retired.
    private var retiredAt: NIODeadline?
    /// Whether the tunnel counts as ready in the metrics.
    private var isReady = false {
        didSet {
            guard isReady != oldValue else { return }
            if isReady { metrics.readyTunnels.increment() } else { metrics.readyTunnels.decrement() }
        }
    }
    private var session: TunnelSession?
    private var state = State.connecting
    private var control = ControlCodec()
    /// The ERROR that the gateway sent before it closed.
    private var gatewayError: ErrorMessage?

    init(
        gateway: String,
        token: AgentToken,
        loopState: AgentLoopState,
        openSessions: OpenSessions,
        metrics: DialerMetrics,
        outcome: EventLoopPromise<Outcome>
    ) {
        self.gateway = gateway
        self.token = token
        self.loopState = loopState
        self.openSessions = openSessions
        self.metrics = metrics
        self.outcome = outcome
        context = loopState.context
        attachNumber = openSessions.nextAttachNumber()
    }

    /// Starts with a tunnel that has just been created. Called on the event loop.
    func begin(_ session: TunnelSession) {
        guard case .connecting = state else { return }
        self.session = session
        openSessions.add(self, on: loopState.loop)
        // A shutdown that has closed all open sessions did not include this one.
        if context.isDraining { return close() }
        schedule(in: Self.dialTimeout) { session in
            if case .connecting = session.state { session.giveUp(.unreachable) }
        }
    }

    private func schedule(in delay: TimeAmount, _ body: @escaping (GatewaySession) -> Void) {
        loopState.loop.assumeIsolated().scheduleTask(in: delay) { [weak self] in
            if let self { body(self) }
        }
    }

    private func report(_ result: Outcome) {
        guard !hasReported else { return }
        hasReported = true
        outcome.succeed(result)
    }

    /// Reports a failure and closes the tunnel.
    private func giveUp(_ failure: AttachFailure) {
        report(.ended(failure, wasLive: wasLive))
        session?.close(.noError, reason: failure.message)
    }

    private var wasLive: Bool {
        switch state {
        case .live, .draining: true
        case .connecting, .awaitingWelcome, .closed: false
        }
    }

    // MARK: Shutdown

    /// Asks the gateway to send no new requests, and announces that the tunnel closes after `deadline`.
    func drain(deadline: TimeAmount) {
        guard case .live = state else { return }
        setDraining()
        send(.goaway(Goaway(deadlineMilliseconds: UInt64(max(0, deadline.nanoseconds / 1_000_000)))))
    }

    func close() {
        session?.close(.noError, reason: "the agent is shutting down")
    }

    private func setDraining() {
        isReady = false
        state = .draining
    }

    // MARK: Control messages

    private func send(_ message: ControlMessage) {
        guard let session else { return }
        do throws(HopError) {
            session.control.write(try ControlCodec.encode(message))
        } catch {
            giveUp(AttachFailure(.local, "\(error)", remedy: "Offer fewer services and hosts."))
        }
    }

    private func handle(_ message: ControlMessage) {
        switch message {
        case .welcome(let welcome): handleWelcome(welcome)
        case .error(let error): gatewayError = error
        case .elsewhere(let elsewhere):
            giveUp(
                AttachFailure(
                    .elsewhere,
                    "this replica accepts no agents now",
                    retryAfter: AttachFailure.retryAfter(elsewhere.retryAfterMilliseconds)
                )
            )
        case .goaway(let goaway): handleGoaway(goaway)
        case .hosts(let hosts): report(hosts)
        case .hello, .services, .peer:
            session?.close(.protocolViolation, reason: "a message that gateways do not send to agents")
        }
    }

    private func handleWelcome(_ welcome: Welcome) {
        guard case .awaitingWelcome = state, let session else { return }
        if context.isDraining { return close() }
        state = .live
        session.authenticated()
        let requested = TimeAmount.milliseconds(Int64(min(welcome.keepAliveMilliseconds, 15_000)))
        session.setKeepAlive(requested == .zero ? Self.defaultKeepAlive : max(requested, .milliseconds(100)))
        isReady = true
        // Tunnels that this one replaces. Each has its own event loop.
        let (gateway, number) = (gateway, attachNumber)
        openSessions.forEach { $0.retire(gateway: gateway, newer: number) }
        context.log.info(
            "attached",
            metadata: [
                "gateway": "\(gateway)", "address": "\(session.remoteAddress.text)",
                "incarnation": "\(welcome.incarnation)",
                "services": "\(context.configuration.services.map(\.name).joined(separator: ","))",
                "hosts": "\(context.configuration.hosts.joined(separator: ","))",
            ]
        )
        scheduleLivenessCheck()
    }

    private func report(_ hosts: Hosts) {
        guard case .live = state else { return }
        if hosts.unserved.isEmpty {
            context.log.info("requests for all hosts may come", metadata: ["gateway": "\(gateway)"])
        } else {
            context.log.warning(
                "hosts belong to another token or to a route of the gateway; their requests do not come here",
                metadata: ["gateway": "\(gateway)", "hosts": "\(hosts.unserved.joined(separator: ","))"]
            )
        }
    }

    private func handleGoaway(_ goaway: Goaway) {
        guard case .live = state else { return }
        setDraining()
        metrics.goaways.increment()
        let spread = TimeAmount.milliseconds(Int64(min(goaway.spreadMilliseconds, 60_000)))
        let deadline = TimeAmount.milliseconds(Int64(min(goaway.deadlineMilliseconds, 3_600_000)))
        context.log.info("goaway received", metadata: ["gateway": "\(gateway)"])
        report(.goaway(spread: spread))
        // The gateway closes the tunnel at its deadline. If it does not, the agent does.
        schedule(in: deadline + .seconds(5)) {
            $0.session?.close(.noError, reason: "the deadline of GOAWAY has passed")
        }
    }

    // MARK: Liveness

    private func scheduleLivenessCheck() {
        schedule(in: Self.livenessInterval) { session in
            switch session.state {
            case .live, .draining: break
            case .connecting, .awaitingWelcome, .closed: return
            }
            session.checkLiveness()
            session.scheduleLivenessCheck()
        }
    }

    private func checkLiveness() {
        guard let session, let last = session.lastReceived else { return }
        let now = NIODeadline.now()
        if let since = unresponsiveSince, last > since {
            unresponsiveSince = nil
            if case .live = state { isReady = true }
        }
        if let retiredAt, now - retiredAt > Self.retirementTimeout,
            last <= retiredAt || !session.hasOpenStreams || now - retiredAt > Self.retirementLimit
        {
            session.close(.noError, reason: "a new tunnel has replaced this one")
            return
        }
        guard !session.isResponsive else { return }
        let quiet = now - last
        if quiet > Self.closeTimeout {
            giveUp(
                AttachFailure(.silent, "nothing received from the gateway for \(quiet.nanoseconds / 1_000_000_000) s")
            )
        } else if quiet > Self.silenceTimeout {
            replace("gateway unresponsive, attaching again", .silent)
        }
    }

    /// Asks the connector for another tunnel. This one stays open: the indication may be forged, or the gateway busy.
    private func replace(_ message: Logger.Message, _ outcome: Outcome) {
        guard case .live = state else { return }
        unresponsiveSince = unresponsiveSince ?? .now()
        isReady = false
        guard !hasReported else { return }
        isBeingReplaced = true
        context.log.warning(message, metadata: ["gateway": "\(gateway)"])
        report(outcome)
    }

    /// Retires this tunnel if a newer one has replaced it. The gateway sends no new requests here, and those in flight
    /// finish. If the gateway does not acknowledge that, it has lost the tunnel, which closes then.
    private func retire(gateway: String, newer number: UInt64) {
        guard isBeingReplaced, gateway == self.gateway, attachNumber < number, case .live = state else { return }
        setDraining()
        retiredAt = .now()
        send(.goaway(Goaway(deadlineMilliseconds: UInt64(Self.retirementLimit.nanoseconds / 1_000_000))))
    }
}

extension GatewaySession: SessionHandler {
    func sessionEstablished(_ session: TunnelSession) {
        guard case .connecting = state else { return }
        state = .awaitingWelcome
        session.control.handler = self
        let configuration = context.configuration
        send(
            .hello(
                Hello(
                    tokenID: token.id,
                    secret: token.secret,
                    name: configuration.name,
                    run: context.run,
                    attach: attachNumber,
                    services: configuration.services.map(\.name),
                    hosts: configuration.hosts,
                    maxRequests: configuration.maxRequests
                )
            )
        )
        schedule(in: Self.welcomeTimeout) { session in
            if case .awaitingWelcome = session.state {
                session.giveUp(AttachFailure(.gatewayError, "the gateway did not answer HELLO"))
            }
        }
    }

    func session(_ session: TunnelSession, opened stream: TunnelStream) {
        stream.handler = OriginExchange(stream: stream, loopState: loopState, now: .now())
    }

    func sessionSuspected(_ session: TunnelSession) {
        replace("gateway may have lost the tunnel, attaching again", .suspected)
    }

    func sessionClosed(_ session: TunnelSession, reason: SessionCloseReason) {
        let wasLive = self.wasLive
        isReady = false
        state = .closed
        self.session = nil
        openSessions.remove(self)
        let failure = AttachFailure(reason, gatewayError: gatewayError)
        if hasReported, wasLive {
            context.log.info(
                "replaced tunnel closed",
                metadata: ["gateway": "\(gateway)", "reason": "\(failure.message)"]
            )
        }
        report(.ended(failure, wasLive: wasLive))
    }
}

extension GatewaySession: StreamHandler {
    func streamRead(_ bytes: ByteBuffer) {
        session?.control.consumed(bytes.readableBytes)
        control.feed(bytes)
        do throws(HopError) {
            while let message = try control.next() { handle(message) }
        } catch {
            session?.close(.protocolViolation, reason: error.message)
        }
    }

    func streamFinished() {
        // The control stream lives as long as the tunnel.
        session?.close(.protocolViolation, reason: "FIN on the control stream")
    }

    func streamFailed(_ failure: StreamFailure) {
        guard case .reset = failure.reason else { return }
        session?.close(.protocolViolation, reason: "the control stream was reset")
    }

    func streamStopped(code: ApplicationErrorCode) {
        session?.close(.protocolViolation, reason: "the control stream was stopped")
    }

    func streamWritable() {}
}
