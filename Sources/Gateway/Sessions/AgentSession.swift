import Cluster
import Credentials
import Formats
import HopProtocol
import Logging
import NIOCore
import Observability
import Synchronization
import Transport
import Tunnel

/// The gateway's end of one agent's tunnel: authenticates the agent and maintains its attachment.
///
/// The life of a session:
///
/// 1. `sessionEstablished(_:)`: DTLS is established, and this object becomes the handler of the control stream. The
///    transport closes the session if the agent does not authenticate in time.
/// 2. HELLO arrives (``receive(_:)``). A token that is not accepted is read from the store once, since a command may
///    have created or rotated it just now. Then (``admit(_:)``) it is verified by ``CredentialCache``, the offer is
///    checked by ``AgentAdmission``, and ``AgentRegistry`` grants a place. If one of these fails, ERROR is sent and the
///    session is closed shortly after (``refuse(_:_:level:log:remedy:_:code:wait:retryAfter:)``).
/// 3. Otherwise WELCOME is sent and the ``Attachment`` is added to the registry: requests open streams on the session
///    from now on, without this object. Older sessions of the same agent are probed by ``AgentSessionManager``.
/// 4. SERVICES changes the offer, at most once a second; GOAWAY stops new requests. HOSTS tells the agent which of its
///    hosts belong to others.
/// 5. `sessionClosed(_:reason:)` removes the attachment.
///
/// Confined to the session's event loop. The session holds it as its handler until the session is closed.
final class AgentSession: SessionHandler {
    private enum State {
        case awaitingHello
        /// The credential of the agent's token is being read from the store. SERVICES changes the offer of HELLO
        /// meanwhile, and GOAWAY is applied after the attachment.
        case awaitingCredential(Hello, isLeaving: Bool)
        case serving(Attachment)
        /// The agent was refused, or the session is closed.
        case closed
    }

    /// The time between ERROR and CONNECTION_CLOSE, so that the agent receives ERROR first.
    private static let closeDelay = TimeAmount.milliseconds(50)
    /// The shortest time between two changes of an agent's offer.
    private static let offerPause = TimeAmount.seconds(1)
    /// The shortest time between two HOSTS messages.
    private static let reportPause = TimeAmount.seconds(1)
    /// The number of hosts in one line of the log.
    private static let hostsLogged = 10

    private let manager: AgentSessionManager
    private var session: TunnelSession?
    private var codec = ControlCodec()
    private var state = State.awaitingHello
    private var sampled = TunnelStatistics()
    /// The last SERVICES, whether it is applied or waits for its turn.
    private var offer: Services?
    private var isOfferDelayed = false
    private var nextOffer = NIODeadline.uptimeNanoseconds(0)
    /// The hosts of the last HOSTS message.
    private var lostHosts: [HostPattern] = []
    private var isReportDelayed = false
    private var nextReport = NIODeadline.uptimeNanoseconds(0)

    init(manager: AgentSessionManager) {
        self.manager = manager
    }

    func sessionEstablished(_ session: TunnelSession) {
        self.session = session
        session.control.handler = self
    }

    func session(_ session: TunnelSession, opened stream: TunnelStream) {
        // Requests are sent to agents, never by them.
        stream.reset(.refused)
        stream.stopSending(.refused)
    }

    func sessionClosed(_ session: TunnelSession, reason: SessionCloseReason) {
        defer {
            state = .closed
            self.session = nil
            session.handler = nil
        }
        switch state {
        case .serving(let attachment):
            sample()
            manager.registry.detach(id: attachment.id)
            manager.metrics.disconnects[Self.disconnect(reason)].increment()
            var metadata = manager.metadata(attachment)
            metadata["reason"] = "\(Self.describe(reason))"
            manager.logger.info("agent detached", metadata: metadata)
        case .awaitingHello, .awaitingCredential:
            if case .notAuthenticated = reason { manager.metrics.authFailures[.timeout].increment() }
            manager.logger.debug(
                "session closed before WELCOME",
                metadata: ["remote": "\(session.remoteAddress.text)", "reason": "\(Self.describe(reason))"]
            )
        case .closed: break
        }
    }

    /// Adds the growth of the session's statistics since the last call to the metrics.
    func sample() {
        guard let session else { return }
        let now = session.statistics
        func growth(_ figure: KeyPath<TunnelStatistics, UInt64>) -> Int {
            Int(truncatingIfNeeded: now[keyPath: figure] &- min(sampled[keyPath: figure], now[keyPath: figure]))
        }
        manager.metrics.lostPackets.increment(by: growth(\.packetsLost))
        manager.metrics.retransmittedBytes.increment(by: growth(\.retransmittedBytes))
        manager.metrics.streamBytesIn.increment(by: growth(\.streamBytesReceived))
        manager.metrics.streamBytesOut.increment(by: growth(\.streamBytesSent))
        if now.rtt > .zero { manager.metrics.roundTrip.observe(now.rtt) }
        sampled = now
    }

    // MARK: Control messages

    private func handle(_ message: ControlMessage) {
        switch (message, state) {
        case (.hello(let hello), .awaitingHello): receive(hello)
        case (.hello, .serving), (.hello, .awaitingCredential): closeForViolation("a second HELLO")
        case (.services(let services), .serving(let attachment)): update(attachment, services)
        case (.services(let services), .awaitingCredential(var hello, let isLeaving)):
            (hello.services, hello.hosts) = (services.services, services.hosts)
            state = .awaitingCredential(hello, isLeaving: isLeaving)
        case (.goaway, .serving(let attachment)): leave(attachment)
        case (.goaway, .awaitingCredential(let hello, _)): state = .awaitingCredential(hello, isLeaving: true)
        case (.error(let error), _):
            manager.logger.warning(
                "error reported by agent",
                metadata: ["code": "\(error.code.name)", "message": "\(error.message)"]
            )
        case (_, .awaitingHello): closeForViolation("a message before HELLO")
        default: break
        }
    }

    private func leave(_ attachment: Attachment) {
        guard attachment.move(from: .active, to: .leaving) || attachment.move(from: .suspended, to: .leaving) else {
            return
        }
        manager.logger.info("agent leaving", metadata: manager.metadata(attachment))
        // Its hosts pass to agents that accept requests.
        if let row = manager.registry.row(id: attachment.id) {
            manager.registry.update(id: attachment.id, services: row.services, claims: [])
        }
    }

    private func receive(_ hello: Hello) {
        guard let session else { return }
        // The store is read for every reason of a refusal, so that the timing does not tell the peer which one it is.
        guard IssuedToken.isID(hello.tokenID), !manager.lifecycle.isDraining,
            !manager.credentials.accepts(id: hello.tokenID, secret: hello.secret),
            let read = manager.lookup.read(
                hello.tokenID,
                for: session.remoteAddress,
                on: session.loop,
                now: .now()
            )
        else { return admit(hello) }
        state = .awaitingCredential(hello, isLeaving: false)
        read.assumeIsolated().whenComplete { _ in
            guard case .awaitingCredential(let hello, let isLeaving) = self.state else { return }
            self.admit(hello)
            if isLeaving, case .serving(let attachment) = self.state { self.leave(attachment) }
        }
    }

    private func admit(_ hello: Hello) {
        guard let session else { return }
        guard !manager.lifecycle.isDraining else {
            manager.metrics.authFailures[.draining].increment()
            state = .closed
            send(.elsewhere(Elsewhere(retryAfterMilliseconds: 1_000)))
            closeAfterDelay(.refused, "this gateway is about to stop")
            return
        }
        let result = manager.credentials.verify(
            id: hello.tokenID,
            secret: hello.secret,
            from: session.remoteAddress,
            now: .now()
        )
        switch result {
        case .refused(let refusal, let retryAfter):
            // The secret is not logged, and the peer does not learn the reason.
            refuse(
                hello,
                .credential,
                // Anyone can present an unknown id.
                level: refusal == .unknown ? .notice : .warning,
                log: refusal.rawValue,
                remedy: refusal.remedy(tokenID: hello.tokenID),
                "the token is not accepted",
                retryAfter: retryAfter
            )
        case .granted(let credential, let secret):
            do throws(AgentAdmission.Rejection) {
                let admission = try AgentAdmission.check(
                    hello,
                    allowsService: credential.allows(service:),
                    specificity: credential.specificity(of:)
                )
                guard manager.registry.claim(run: hello.run, tokenID: credential.id, limit: credential.maxAgents) else {
                    return refuseTooMany(hello, credential)
                }
                attach(hello, credential, secret, admission, session)
            } catch {
                let (reason, remedy): (GatewayMetrics.AuthFailure, String) =
                    switch error.reason {
                    case .malformed: (.malformed, "correct the configuration of the agent")
                    case .service: (.service, "offer another service, or create a token with --service")
                    case .host: (.host, "request another host, or create a token with --host")
                    }
                refuse(hello, reason, log: error.message, remedy: remedy, error.message)
            }
        }
    }

    private func attach(
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
        // WELCOME has to precede the first request: it is written before the attachment is added to the registry.
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
        offer = Services(services: hello.services, hosts: hello.hosts)
        let hosts = admission.claims.map(\.host)
        let older = manager.registry.attach(
            SessionRow(
                attachment.info,
                services: admission.services,
                claims: admission.claims,
                upstream: attachment
            )
        )
        manager.metrics.sessions[.dtls].increment()
        manager.hostsChanged(hosts)
        var metadata = manager.metadata(attachment)
        metadata["remote"] = "\(session.remoteAddress.text)"
        metadata["services"] = "\(admission.services.joined(separator: ","))"
        if !hosts.isEmpty { metadata["hosts"] = "\(hosts.map(\.description).joined(separator: ","))" }
        manager.logger.info("agent attached", metadata: metadata)
        reportHosts()
        // A change of the credential may have been applied between verification and attachment, without this session.
        guard manager.credentials.credential(id: credential.id) === credential else {
            attachment.move(from: .active, to: .leaving)
            session.close(.authFailed, reason: "the token was changed")
            return
        }
        for attachment in older { manager.probe(attachment) }
    }

    // MARK: Offers

    /// Applies SERVICES at once, or after the pause since the last change: then the latest message counts. One that
    /// changes nothing has no effect.
    private func update(_ attachment: Attachment, _ offer: Services) {
        guard offer != self.offer, attachment.state != .leaving else { return }
        self.offer = offer
        guard !isOfferDelayed else { return }
        let now = NIODeadline.now()
        guard now < nextOffer else { return apply(offer, to: attachment) }
        isOfferDelayed = true
        attachment.session.loop.assumeIsolated().scheduleTask(deadline: nextOffer) {
            self.isOfferDelayed = false
            guard case .serving(let attachment) = self.state, attachment.state != .leaving, let offer = self.offer
            else { return }
            self.apply(offer, to: attachment)
        }
    }

    private func apply(_ offer: Services, to attachment: Attachment) {
        nextOffer = .now() + Self.offerPause
        guard let credential = manager.credentials.credential(id: attachment.info.tokenID) else { return }
        do throws(AgentAdmission.Rejection) {
            let (services, claims) = try AgentAdmission.checkOffer(
                offer.services,
                offer.hosts,
                credential.allows(service:),
                credential.specificity(of:)
            )
            manager.registry.update(id: attachment.id, services: services, claims: claims)
            manager.hostsChanged(claims.map(\.host))
            reportHosts()
        } catch {
            send(.error(ErrorMessage(code: .authFailed, message: error.message)))
            closeAfterDelay(.authFailed, error.message)
        }
    }

    /// Applies a change of the agent's credential: closes the session if the token was revoked or its secret is
    /// accepted no longer, and otherwise decides again which services and hosts of the offer the token allows.
    func credentialChanged() {
        guard case .serving(let attachment) = state, let offer else { return }
        func close(_ event: Logger.Message, _ reason: String) {
            manager.logger.notice(event, metadata: manager.metadata(attachment))
            attachment.session.close(.authFailed, reason: reason)
        }
        guard let credential = manager.credentials.credential(id: attachment.info.tokenID) else {
            return close("token revoked, session closed", "the token was revoked")
        }
        guard manager.credentials.accepts(attachment.secret, id: credential.id) else {
            return close("token secret replaced, session closed", "the token's secret was replaced")
        }
        let services = offer.services.filter { credential.allows(service: $0) }
        guard !services.isEmpty, credential.name == attachment.info.agent else {
            return close("token changed, session closed", "the token was changed")
        }
        guard attachment.state != .leaving, let row = manager.registry.row(id: attachment.id) else { return }
        let claims = offer.hosts.compactMap { try? HostPattern($0) }.map {
            HostClaim(host: $0, specificity: credential.specificity(of: $0))
        }
        guard Set(services) != Set(row.services) || Set(claims) != Set(row.claims) else { return }
        manager.logger.notice("token permissions changed", metadata: manager.metadata(attachment))
        manager.registry.update(id: attachment.id, services: services.uniqued(), claims: claims.uniqued())
        reportHosts()
    }

    /// Sends HOSTS if the agent's hosts that belong to others have changed: at most once a second, and not before the
    /// agent has taken what was sent before. So an agent that never reads is sent one message.
    func reportHosts() {
        guard case .serving(let attachment) = state, !isReportDelayed else { return }
        let now = NIODeadline.now()
        guard now >= nextReport, attachment.session.control.isWritable else {
            isReportDelayed = true
            attachment.session.loop.assumeIsolated().scheduleTask(
                deadline: now < nextReport ? nextReport : now + Self.reportPause
            ) {
                self.isReportDelayed = false
                self.reportHosts()
            }
            return
        }
        let lost = manager.registry.lostHosts(id: attachment.id)
        guard lost != lostHosts else { return }
        (lostHosts, nextReport) = (lost, now + Self.reportPause)
        send(.hosts(Hosts(unserved: lost.map(\.description))))
        guard !lost.isEmpty else { return }
        var metadata = manager.metadata(attachment)
        let more = lost.count > Self.hostsLogged ? " and \(lost.count - Self.hostsLogged) more" : ""
        metadata["hosts"] = "\(lost.prefix(Self.hostsLogged).map(\.description).joined(separator: ","))\(more)"
        manager.logger.notice("hosts not served by agent", metadata: metadata)
    }

    // MARK: Refusal

    /// The time after which an agent that exceeded its token's limit may try again.
    private static let limitRetryDelay = TimeAmount.seconds(1)

    private func refuseTooMany(_ hello: Hello, _ credential: Credential) {
        let limit = credential.maxAgents ?? 0
        let agents = limit == 1 ? "1 agent" : "\(limit) agents"
        let message = "the token allows \(agents) at a time, and as many are attached"
        // The session of a process of the same name that died may still be open: then the next attempt finds a place.
        let older = manager.registry.attachments(tokenID: credential.id, instance: hello.name)
        for attachment in older where !attachment.session.isResponsive { manager.probe(attachment) }
        refuse(
            hello,
            .limit,
            log: message,
            remedy: "end an agent, or create a token with a greater --max-agents",
            message,
            code: .busy,
            wait: Self.limitRetryDelay
        )
    }

    private func refuse(
        _ hello: Hello,
        _ reason: GatewayMetrics.AuthFailure,
        level: Logger.Level = .warning,
        log: String,
        remedy: String,
        _ message: String,
        code: HopCode = .authFailed,
        wait: TimeAmount = .zero,
        retryAfter: TimeAmount? = nil
    ) {
        manager.metrics.authFailures[reason].increment()
        let refusals = manager.refusals.withLock {
            $0.record(
                tokenID: hello.tokenID,
                reason: log,
                kind: reason.rawValue,
                isLimited: retryAfter != nil,
                now: .now()
            )
        }
        if let refusals {
            manager.logger.log(
                level: level,
                "agent refused",
                metadata: [
                    "remote": "\(session.map { $0.remoteAddress.text } ?? "")",
                    "token_id": "\(hello.tokenID)",
                    "instance": "\(hello.name)",
                    "reason": "\(log)",
                    "remedy": "\(remedy)",
                    "refusals": "\(refusals)",
                ]
            )
        }
        state = .closed
        let milliseconds = UInt64(max(0, (retryAfter ?? wait).nanoseconds / 1_000_000))
        send(.error(ErrorMessage(code: code, message: message, retryAfterMilliseconds: milliseconds)))
        closeAfterDelay(code, message)
    }

    private func closeForViolation(_ message: String) {
        manager.logger.warning(
            "protocol violation by agent",
            metadata: ["remote": "\(session.map { $0.remoteAddress.text } ?? "")", "error": "\(message)"]
        )
        session?.close(.protocolViolation, reason: message)
    }

    private func send(_ message: ControlMessage) {
        guard let session, let bytes = try? ControlCodec.encode(message) else { return }
        session.control.write(bytes)
    }

    private func closeAfterDelay(_ code: HopCode, _ reason: String) {
        guard let session else { return }
        session.loop.scheduleTask(in: Self.closeDelay) { session.close(code.wireCode, reason: reason) }
    }
}

extension AgentSession: StreamHandler {
    func streamRead(_ bytes: ByteBuffer) {
        session?.control.consumed(bytes.readableBytes)
        codec.feed(bytes)
        do throws(HopError) {
            while let message = try codec.next() { handle(message) }
        } catch {
            closeForViolation(error.message)
        }
    }

    func streamFinished() { closeForViolation("the control stream ended") }
    func streamFailed(_ failure: StreamFailure) {
        // A reset of stream 0 is fatal for the tunnel. If the session is already closed, this does nothing.
        session?.close(.protocolViolation, reason: "the control stream was reset")
    }
    func streamStopped(code: ApplicationErrorCode) { closeForViolation("the control stream was stopped") }
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
        case .dtls(nil): .agent
        case .dtls: .dtls
        case .replaced: .replaced
        case .listenerClosed: .gateway
        default: .other
        }
    }

    /// The reason as logged.
    private static func describe(_ reason: SessionCloseReason) -> String {
        guard case .peer(let code, let text) = reason else { return "\(reason)" }
        return "the agent closed: \(HopCode(code).name) \(text)"
    }
}

extension CredentialRefusal {
    /// The way to mend the cause of a refusal, for the log.
    ///
    /// - Parameter id: The id of the token, which is that of an existing one if only its secret was rejected.
    fileprivate func remedy(tokenID id: String) -> String {
        let need =
            "it needs the join string that the last hopgate token rotate \(id) printed; rotate again only if it is lost"
        return switch self {
        case .unknown: "this store has no such token; to list its tokens: hopgate token list"
        case .wrongSecret: "the agent has a previous, incomplete or foreign secret; \(need)"
        case .expiredSecret: "the agent has a previous secret, whose grace period has ended; \(need)"
        case .revoked: "the token was revoked; for another one: hopgate token create"
        }
    }
}
