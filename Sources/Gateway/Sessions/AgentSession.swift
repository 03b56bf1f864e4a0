import HopProtocol
import Logging
import NIOCore
import Observability
import Transport
import Tunnel

/// The gateway's end of one agent's tunnel: lets the agent in by its HELLO and keeps its attachment.
///
/// Confined to the session's loop. Held by the session as its handler until that is closed.
final class AgentSession: SessionHandler {
    private enum State {
        case awaitingHello
        case serving(Attachment)
        /// Refused, or gone.
        case over
    }

    /// Between ERROR and CONNECTION_CLOSE, so that the one is not overtaken by the other.
    private static let farewell = TimeAmount.milliseconds(50)

    private let manager: AgentSessionManager
    private var session: TunnelSession?
    private var codec = ControlCodec()
    private var state = State.awaitingHello
    private var sampled = TunnelStatistics()

    init(manager: AgentSessionManager) {
        self.manager = manager
    }

    func sessionEstablished(_ session: TunnelSession) {
        self.session = session
        session.control.handler = self
    }

    func session(_ session: TunnelSession, opened stream: TunnelStream) {
        // Requests go to agents, not the other way.
        stream.reset(.refused)
        stream.stopSending(.refused)
    }

    func sessionClosed(_ session: TunnelSession, reason: SessionCloseReason) {
        defer {
            state = .over
            self.session = nil
            session.handler = nil
        }
        switch state {
        case .serving(let attachment):
            sample()
            manager.registry.detach(id: attachment.id)
            manager.metrics.disconnects[Self.disconnect(reason)].increment()
            var metadata = manager.metadata(attachment)
            metadata["reason"] = "\(Self.text(reason))"
            manager.logger.info("agent detached", metadata: metadata)
        case .awaitingHello:
            if case .notAuthenticated = reason { manager.metrics.authFailures[.timeout].increment() }
            manager.logger.debug(
                "a session ended before HELLO",
                metadata: ["remote": "\(session.remoteAddress.text)", "reason": "\(Self.text(reason))"]
            )
        case .over: break
        }
    }

    /// Adds what the session's figures grew by since the last time.
    func sample() {
        guard let session else { return }
        let now = session.statistics
        func grown(_ figure: KeyPath<TunnelStatistics, UInt64>) -> Int {
            Int(truncatingIfNeeded: now[keyPath: figure] &- min(sampled[keyPath: figure], now[keyPath: figure]))
        }
        manager.metrics.lostPackets.increment(by: grown(\.packetsLost))
        manager.metrics.retransmittedBytes.increment(by: grown(\.retransmittedBytes))
        manager.metrics.streamBytesIn.increment(by: grown(\.streamBytesReceived))
        manager.metrics.streamBytesOut.increment(by: grown(\.streamBytesSent))
        if now.rtt > .zero { manager.metrics.roundTrip.observe(now.rtt) }
        sampled = now
    }

    // MARK: Control messages

    private func take(_ message: ControlMessage) {
        switch (message, state) {
        case (.hello(let hello), .awaitingHello): admit(hello)
        case (.hello, .serving): violation("a second HELLO")
        case (.services(let services), .serving(let attachment)): update(attachment, services)
        case (.goaway, .serving(let attachment)):
            if attachment.move(from: .active, to: .leaving) || attachment.move(from: .suspended, to: .leaving) {
                manager.logger.info("agent is leaving", metadata: manager.metadata(attachment))
            }
        case (.error(let error), _):
            manager.logger.warning(
                "an agent reports an error",
                metadata: ["code": "\(error.code.name)", "message": "\(error.message)"]
            )
        case (_, .awaitingHello): violation("a message before HELLO")
        default: break
        }
    }

    private func admit(_ hello: Hello) {
        guard let session else { return }
        guard !manager.lifecycle.isDraining else {
            manager.metrics.authFailures[.draining].increment()
            state = .over
            send(.elsewhere(Elsewhere(retryAfterMilliseconds: 1_000)))
            closeSoon(.refused, "this gateway is about to stop")
            return
        }
        let verdict = manager.credentials.verify(
            id: hello.tokenID,
            secret: hello.secret,
            from: session.remoteAddress,
            now: .now()
        )
        switch verdict {
        case .refused(let refusal, let retryAfter):
            // Nothing of the secret is logged, and the other side learns no reason.
            refuse(hello, .credential, log: refusal.rawValue, "the token is not accepted", retryAfter: retryAfter)
        case .granted(let credential, let secret):
            do throws(AgentAdmission.Rejection) {
                let admission = try AgentAdmission.check(
                    hello,
                    allowsService: credential.allows(service:),
                    allowsHost: credential.allows(host:)
                )
                guard manager.registry.claim(run: hello.run, tokenID: credential.id, limit: credential.maxAgents) else {
                    return refuseTooMany(hello, credential)
                }
                welcome(hello, credential, secret, admission, session)
            } catch {
                let reason: GatewayMetrics.AuthFailure =
                    switch error.reason {
                    case .malformed: .malformed
                    case .service: .service
                    case .host: .host
                    }
                refuse(hello, reason, log: error.message, error.message)
            }
        }
    }

    private func welcome(
        _ hello: Hello,
        _ credential: Credential,
        _ secret: SecretHash,
        _ admission: AgentAdmission,
        _ session: TunnelSession
    ) {
        let attachment = Attachment(
            AttachmentInfo(
                id: session.id,
                tokenID: credential.id,
                agent: credential.name,
                instance: hello.name,
                run: hello.run,
                number: hello.attach
            ),
            session: session,
            handler: self,
            secret: secret,
            maxRequests: admission.maxRequests
        )
        let keepAlive = manager.registry.keepAlive
        session.authenticated()
        session.setKeepAlive(keepAlive)
        // WELCOME stands in the stream before any request can.
        send(
            .welcome(
                Welcome(
                    incarnation: manager.incarnation,
                    keepAliveMilliseconds: UInt64(keepAlive.nanoseconds / 1_000_000),
                    maxRequests: admission.maxRequests
                )
            )
        )
        state = .serving(attachment)
        let older = manager.registry.attach(
            .init(attachment, services: admission.services, hosts: admission.hosts)
        )
        manager.metrics.sessions[.dtls].increment()
        manager.hostsChanged(admission.hosts.map(\.description))
        var metadata = manager.metadata(attachment)
        metadata["remote"] = "\(session.remoteAddress.text)"
        metadata["services"] = "\(admission.services.joined(separator: ","))"
        if !admission.hosts.isEmpty {
            metadata["hosts"] = "\(admission.hosts.map(\.description).joined(separator: ","))"
        }
        manager.logger.info("agent attached", metadata: metadata)
        // Whoever changed the credential meanwhile may have looked for its sessions before this one was among them.
        guard manager.credentials.credential(id: credential.id) === credential else {
            attachment.move(from: .active, to: .leaving)
            session.close(.authFailed, reason: "the token was changed")
            return
        }
        for attachment in older { manager.probe(attachment) }
    }

    private func update(_ attachment: Attachment, _ services: Services) {
        guard let credential = manager.credentials.credential(id: attachment.info.tokenID) else { return }
        do throws(AgentAdmission.Rejection) {
            let (names, hosts) = try AgentAdmission.offer(
                services.services,
                services.hosts,
                credential.allows(service:),
                credential.allows(host:)
            )
            manager.registry.update(id: attachment.id, services: names, hosts: hosts)
            manager.hostsChanged(hosts.map(\.description))
        } catch {
            send(.error(ErrorMessage(code: .authFailed, message: error.message)))
            closeSoon(.authFailed, error.message)
        }
    }

    // MARK: Refusing

    /// How soon an agent that was one too many may come again.
    private static let limitRetry = TimeAmount.seconds(1)

    private func refuseTooMany(_ hello: Hello, _ credential: Credential) {
        let limit = credential.maxAgents ?? 0
        let agents = limit == 1 ? "1 agent" : "\(limit) agents"
        let message = "the token allows \(agents) at a time, and as many are attached"
        // Of a process of the same name that died the session may still be there: then the next try finds room.
        let older = manager.registry.attachments(tokenID: credential.id, instance: hello.name)
        for attachment in older where !attachment.session.isResponsive { manager.probe(attachment) }
        refuse(hello, .limit, log: message, message, code: .busy, wait: Self.limitRetry)
    }

    private func refuse(
        _ hello: Hello,
        _ reason: GatewayMetrics.AuthFailure,
        log: String,
        _ message: String,
        code: HopCode = .authFailed,
        wait: TimeAmount = .zero,
        retryAfter: TimeAmount? = nil
    ) {
        manager.metrics.authFailures[reason].increment()
        // Whoever fails more often than the limiter allows fills no log.
        if retryAfter == nil {
            manager.logger.warning(
                "agent refused",
                metadata: [
                    "remote": "\(session.map { "\($0.remoteAddress)" } ?? "")",
                    "token_id": "\(hello.tokenID)",
                    "instance": "\(hello.name)",
                    "reason": "\(log)",
                ]
            )
        }
        state = .over
        let milliseconds = UInt64(max(0, (retryAfter ?? wait).nanoseconds / 1_000_000))
        send(.error(ErrorMessage(code: code, message: message, retryAfterMilliseconds: milliseconds)))
        closeSoon(code, message)
    }

    private func violation(_ message: String) {
        manager.logger.warning(
            "an agent broke the protocol",
            metadata: ["remote": "\(session.map { "\($0.remoteAddress)" } ?? "")", "error": "\(message)"]
        )
        session?.close(.protocolViolation, reason: message)
    }

    private func send(_ message: ControlMessage) {
        guard let session, let bytes = try? ControlCodec.encode(message) else { return }
        session.control.write(bytes)
    }

    private func closeSoon(_ code: HopCode, _ reason: String) {
        guard let session else { return }
        session.loop.scheduleTask(in: Self.farewell) { session.close(code.wireCode, reason: reason) }
    }
}

extension AgentSession: StreamHandler {
    func streamRead(_ bytes: ByteBuffer) {
        session?.control.consumed(bytes.readableBytes)
        codec.feed(bytes)
        do throws(HopError) {
            while let message = try codec.next() { take(message) }
        } catch {
            violation(error.message)
        }
    }

    func streamFinished() { violation("the control stream ended") }
    func streamFailed(_ failure: StreamFailure) {
        // A reset of stream 0 ends the tunnel; with the session over this does nothing.
        session?.close(.protocolViolation, reason: "the control stream was reset")
    }
    func streamStopped(code: ApplicationErrorCode) { violation("the control stream was stopped") }
    func streamWritable() {}
}

extension AgentSession {
    private static func disconnect(_ reason: SessionCloseReason) -> GatewayMetrics.Disconnect {
        switch reason {
        case .local(let code, _):
            switch HopCode(code) {
            case .superseded: .superseded
            case .authFailed: .revoked
            case .protocolViolation: .violation
            default: .gateway
            }
        case .peer: .agent
        case .violation: .violation
        case .idleTimeout: .idle
        case .lost: .lost
        case .dtls(nil): .agent
        case .dtls: .dtls
        case .replaced: .replaced
        case .listenerClosed: .gateway
        default: .other
        }
    }

    /// For the log.
    private static func text(_ reason: SessionCloseReason) -> String {
        switch reason {
        case .local(_, let text): text
        case .peer(let code, let text): "the agent closed: \(HopCode(code).name) \(text)"
        case .violation(let error): "protocol violation: \(error)"
        case .idleTimeout: "nothing was received for the idle timeout"
        case .lost: "the agent has forgotten this session"
        case .dtls(nil): "the agent ended DTLS"
        case .dtls(let error?): "DTLS: \(error)"
        case .replaced: "replaced by a new session of the same address"
        case .listenerClosed: "the listener was closed"
        case .notAuthenticated: "no HELLO in time"
        default: "\(reason)"
        }
    }
}
