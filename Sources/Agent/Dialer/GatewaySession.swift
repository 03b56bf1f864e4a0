import HopProtocol
import Logging
import NIOCore
import Observability
import Transport
import Tunnel

/// One tunnel to a gateway, from the dial to its end: says HELLO, waits for WELCOME, hands each stream to an
/// ``OriginExchange``. Lives on one loop.
final class GatewaySession {
    /// What the one who dialled is told, once. The session may outlive it.
    enum Outcome: Sendable {
        /// It ended, or never began.
        case ended(AttachFailure, wasLive: Bool)
        /// The gateway wants us elsewhere within `spread`; requests in flight go on here.
        case goaway(spread: TimeAmount)
        /// Nothing comes from the gateway; it may be gone, or our address may have changed.
        case silent
    }

    private enum Stage {
        case dialling
        /// HELLO was sent.
        case introduced
        case live
        /// No new requests come: GOAWAY of either side.
        case leaving
        case closed
    }

    /// From the dial to the end of the handshake. Then the next attempt comes from a new source port, since a dead
    /// path can be pinned to the old one.
    static let dialTime = TimeAmount.seconds(5)
    /// From HELLO to WELCOME.
    static let welcomeTime = TimeAmount.seconds(5)
    static let watchInterval = TimeAmount.milliseconds(500)
    /// A live tunnel without an acknowledgement for long, and without any sign for this long, is not relied upon.
    static let silence = TimeAmount.seconds(2)
    /// And is given up after this.
    static let longSilence = TimeAmount.seconds(10)
    static let defaultKeepAlive = TimeAmount.seconds(1)

    let gateway: String
    private let owner: OriginLoop
    private let shared: AgentShared
    private let attach: UInt64
    private let outcome: EventLoopPromise<Outcome>
    private var hasOutcome = false
    private var session: TunnelSession?
    private var stage = Stage.dialling
    private var control = ControlCodec()
    private var said: ErrorMessage?
    private var retryAfter: TimeAmount?
    private let registry: OpenSessions

    init(gateway: String, owner: OriginLoop, registry: OpenSessions, outcome: EventLoopPromise<Outcome>) {
        self.gateway = gateway
        self.owner = owner
        self.registry = registry
        self.outcome = outcome
        shared = owner.shared
        attach = shared.nextAttach()
    }

    /// On the loop: the socket is there.
    func begin(_ session: TunnelSession) {
        guard case .dialling = stage else { return }
        self.session = session
        registry.add(self, on: owner.loop)
        // Whoever closed all that is registered did not see this one.
        if shared.isDraining { return close() }
        after(Self.dialTime) { me in
            if case .dialling = me.stage { me.giveUp(.unreachable) }
        }
    }

    private func after(_ delay: TimeAmount, _ body: @escaping (GatewaySession) -> Void) {
        owner.loop.assumeIsolated().scheduleTask(in: delay) { [weak self] in
            if let self { body(self) }
        }
    }

    private func tell(_ result: Outcome) {
        guard !hasOutcome else { return }
        hasOutcome = true
        outcome.succeed(result)
    }

    /// Ends an attempt that leads nowhere.
    private func giveUp(_ failure: AttachFailure) {
        tell(.ended(failure, wasLive: wasLive))
        session?.close(.noError, reason: failure.message)
    }

    private var wasLive: Bool {
        switch stage {
        case .live, .leaving: true
        case .dialling, .introduced, .closed: false
        }
    }

    // MARK: Ours to end

    /// SIGTERM: asks the gateway for no more requests.
    func leave(deadline: TimeAmount) {
        guard case .live = stage else { return }
        setLeaving()
        send(.goaway(Goaway(deadlineMilliseconds: UInt64(max(0, deadline.nanoseconds / 1_000_000)))))
    }

    func close() {
        session?.close(.noError, reason: "the agent stops")
    }

    private func setLeaving() {
        if case .live = stage { shared.metrics.readyTunnels.decrement() }
        stage = .leaving
    }

    // MARK: Control

    private func send(_ message: ControlMessage) {
        guard let session else { return }
        do throws(HopError) {
            session.control.write(try ControlCodec.encode(message))
        } catch {
            giveUp(AttachFailure(.local, "\(error)", remedy: "Offer fewer services and hosts."))
        }
    }

    private func take(_ message: ControlMessage) {
        switch message {
        case .welcome(let welcome): welcomed(welcome)
        case .error(let error): said = error
        case .elsewhere(let elsewhere):
            giveUp(
                AttachFailure(
                    .elsewhere,
                    "this replica takes no agents now",
                    retryAfter: AttachFailure.retryAfter(elsewhere.retryAfterMilliseconds)
                )
            )
        case .goaway(let goaway): toldToGo(goaway)
        case .hello, .services:
            session?.close(.protocolViolation, reason: "a message that only agents send")
        }
    }

    private func welcomed(_ welcome: Welcome) {
        guard case .introduced = stage, let session else { return }
        if shared.isDraining { return close() }
        stage = .live
        session.authenticated()
        let asked = TimeAmount.milliseconds(Int64(min(welcome.keepAliveMilliseconds, 15_000)))
        session.setKeepAlive(asked == .zero ? Self.defaultKeepAlive : max(asked, .milliseconds(100)))
        shared.metrics.readyTunnels.increment()
        shared.log.info(
            "attached",
            metadata: [
                "gateway": "\(gateway)", "address": "\(session.remoteAddress.text)",
                "incarnation": "\(welcome.incarnation)",
                "services": "\(shared.configuration.services.map(\.name).joined(separator: ","))",
                "hosts": "\(shared.configuration.hosts.joined(separator: ","))",
            ]
        )
        watch()
    }

    private func toldToGo(_ goaway: Goaway) {
        guard case .live = stage else { return }
        setLeaving()
        shared.metrics.goaways.increment()
        let spread = TimeAmount.milliseconds(Int64(min(goaway.spreadMilliseconds, 60_000)))
        let deadline = TimeAmount.milliseconds(Int64(min(goaway.deadlineMilliseconds, 3_600_000)))
        shared.log.info("the gateway asks to attach elsewhere", metadata: ["gateway": "\(gateway)"])
        tell(.goaway(spread: spread))
        // The gateway ends the tunnel itself; should it forget, we do.
        after(deadline + .seconds(5)) { $0.session?.close(.noError, reason: "GOAWAY is over") }
    }

    // MARK: Silence

    private func watch() {
        after(Self.watchInterval) { me in
            switch me.stage {
            case .live, .leaving: break
            case .dialling, .introduced, .closed: return
            }
            me.look()
            me.watch()
        }
    }

    private func look() {
        guard let session, !session.isResponsive, let last = session.lastReceived else { return }
        let quiet = NIODeadline.now() - last
        if quiet > Self.longSilence {
            giveUp(AttachFailure(.silent, "nothing came from the gateway for \(quiet.nanoseconds / 1_000_000_000) s"))
        } else if quiet > Self.silence, !hasOutcome {
            shared.log.warning("the gateway is silent, dialling anew", metadata: ["gateway": "\(gateway)"])
            tell(.silent)
        }
    }
}

extension GatewaySession: SessionHandler {
    func sessionEstablished(_ session: TunnelSession) {
        guard case .dialling = stage else { return }
        stage = .introduced
        session.control.handler = self
        let configuration = shared.configuration
        send(
            .hello(
                Hello(
                    tokenID: configuration.token.id,
                    secret: configuration.token.secret,
                    name: configuration.name,
                    run: shared.run,
                    attach: attach,
                    services: configuration.services.map(\.name),
                    hosts: configuration.hosts,
                    maxRequests: configuration.maxRequests
                )
            )
        )
        after(Self.welcomeTime) { me in
            if case .introduced = me.stage {
                me.giveUp(AttachFailure(.gatewayError, "the gateway did not answer our HELLO"))
            }
        }
    }

    func session(_ session: TunnelSession, opened stream: TunnelStream) {
        stream.handler = OriginExchange(stream: stream, owner: owner, now: .now())
    }

    func sessionClosed(_ session: TunnelSession, reason: SessionCloseReason) {
        let wasLive = self.wasLive
        if case .live = stage { shared.metrics.readyTunnels.decrement() }
        stage = .closed
        self.session = nil
        registry.remove(self)
        let failure = AttachFailure.of(reason, said: said, wasLive: wasLive)
        if hasOutcome, wasLive {
            shared.log.info(
                "an older tunnel ended",
                metadata: ["gateway": "\(gateway)", "reason": "\(failure.message)"]
            )
        }
        tell(.ended(failure, wasLive: wasLive))
    }
}

extension GatewaySession: StreamHandler {
    func streamRead(_ bytes: ByteBuffer) {
        session?.control.consumed(bytes.readableBytes)
        control.feed(bytes)
        do throws(HopError) {
            while let message = try control.next() { take(message) }
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
