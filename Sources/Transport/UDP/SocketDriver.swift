import DTLS
import NIOCore

/// One UDP socket on one loop: NIO reads it, ``DatagramSender`` writes it, and sessions use it.
///
/// Think of it as the owner of the socket between NIO and the sessions. It passes each datagram of a read to `handle`,
/// between the beginning and the end of a loop turn; it sends the sessions' bursts, retries a burst that found the
/// socket full, and replaces a channel that NIO has closed. `ListenerSocket` and `DialerSocket` are its subclasses and
/// decide what happens to a datagram and to a session. Confined to its loop; send errors are outcomes, nothing throws.
class SocketDriver: DeadlineNode, DatagramSink {
    final let context: LoopContext
    final let counters: TransportCounters
    final let sender: DatagramSender
    /// The time of the current read.
    private(set) final var turnNow = NIODeadline.now()
    private(set) final var isClosed = false

    /// The NIO side of the socket; replaced when NIO closes it.
    private(set) final var channel: (any Channel)?
    private final var waiting: [TunnelSession] = []
    private final var retryAt: NIODeadline?
    private final var retryDelay = SocketDriver.firstRetry
    private final var reopenAt: NIODeadline?
    private final var reopenDelay = SocketDriver.firstReopening

    private static var firstRetry: TimeAmount { .microseconds(500) }
    private static var lastRetry: TimeAmount { .milliseconds(16) }
    private static var firstReopening: TimeAmount { .milliseconds(1) }
    private static var lastReopening: TimeAmount { .seconds(1) }

    /// A driver needs a socket. Written out because the compiler's own stub for it does not compile.
    @available(*, unavailable)
    override package init() {
        preconditionFailure("a driver needs a socket")
    }

    init(context: LoopContext, socket: UDPSocket, counters: TransportCounters) {
        self.context = context
        self.counters = counters
        sender = DatagramSender(socket: socket, counters: counters)
        super.init()
    }

    // MARK: Overridden by subclasses

    /// Handles one datagram that arrived. `local` is the address that it was sent to, or `nil` if there is only one.
    func handle(
        _ datagram: UnsafeRawBufferPointer,
        from address: UDPAddress,
        to local: UDPAddress?,
        socketAddress: SocketAddress
    ) {}
    /// Handles ECONNREFUSED: no process listens at the peer's port, which indicates that the peer may be gone.
    func connectionRefused() {}
    /// The DTLS handshake of a session is complete.
    func sessionSecured(_ session: TunnelSession) {}
    /// The PARAMETERS of a session are exchanged. A handler, if there is to be one, is set before this returns.
    func sessionOpened(_ session: TunnelSession) {}
    func sessionAuthenticated(_ session: TunnelSession) {}
    /// A session has closed. Called before its owner is notified.
    func sessionClosed(_ session: TunnelSession, reason: SessionCloseReason) {}
    /// A session sends nothing more: remove it.
    func sessionTerminated(_ session: TunnelSession) {}

    // MARK: Reading

    /// Starts to read.
    final func open() -> EventLoopFuture<Void> {
        let opening: EventLoopFuture<any Channel>
        do {
            opening = try DatagramChannel.open(
                sender.socket,
                on: context.loop,
                sink: self,
                counters: counters
            )
        } catch {
            return context.loop.makeFailedFuture(error)
        }
        return opening.assumeIsolated().map { channel in
            if self.isClosed {
                channel.close(promise: nil)
            } else {
                self.channel = channel
            }
        }.nonisolated()
    }

    /// Stops reading and sending. The port is free when the last reference to the socket is gone.
    final func close() {
        guard !isClosed else { return }
        isClosed = true
        sender.discardPending()
        waiting.removeAll()
        context.removeDeadline(self)
        channel?.close(promise: nil)
        channel = nil
        sender.socket.release()
    }

    final func receiveBegins() {
        context.beginTurn()
        turnNow = .now()
        // A read has succeeded, so the next reopening is not delayed.
        reopenDelay = Self.firstReopening
    }

    final func received(
        _ datagram: UnsafeRawBufferPointer,
        from address: UDPAddress,
        to local: UDPAddress?,
        socketAddress: SocketAddress
    ) {
        guard !isClosed else { return }
        handle(datagram, from: address, to: local, socketAddress: socketAddress)
    }

    final func peerRefused() {
        connectionRefused()
    }

    final func receiveEnded() {
        context.endTurn()
    }

    /// Replaces the channel. NIO closes a channel for good after most read errors; the sender's descriptor still holds
    /// the port, so another channel takes over and the sessions notice nothing.
    final func channelClosed() {
        channel = nil
        guard !isClosed else { return }
        reopenAt = .now() + reopenDelay
        reopenDelay = min(reopenDelay * 2, Self.lastReopening)
        setDeadline()
    }

    private func reopen() {
        counters.channelsReopened.add(1)
        open().assumeIsolated().whenFailure { _ in
            self.channelClosed()
        }
    }

    // MARK: Sending

    /// Whether a burst waits for room in the socket's buffer, so that nothing may be sealed.
    final var isBlocked: Bool { sender.isBlocked }

    /// The time at which the pending burst is sent again.
    final var nextRetry: NIODeadline { retryAt ?? .now() }

    final func send(
        _ burst: UnsafeRawBufferPointer,
        segmentSize: Int,
        path: inout DatagramSender.Path
    ) -> DatagramSender.Outcome {
        guard !isClosed else { return .failed(errno: 0) }
        let outcome = sender.send(burst, segmentSize: segmentSize, path: &path)
        if outcome == .blocked {
            retryDelay = Self.firstRetry
            scheduleRetry()
        }
        return outcome
    }

    /// Sends an answer that belongs to no session. It is lost like any datagram if there is no room.
    final func sendStateless(_ datagram: UnsafeRawBufferPointer, to address: UDPAddress, from local: UDPAddress?) {
        guard !isBlocked else { return }
        var path = DatagramSender.Path(address: address, local: local)
        if send(datagram, segmentSize: datagram.count, path: &path) == .blocked {
            sender.discardPending()
        }
    }

    /// Registers a session to be driven when there is room.
    final func waitForRoom(_ session: TunnelSession) {
        guard !session.isWaitingForRoom else { return }
        session.isWaitingForRoom = true
        waiting.append(session)
    }

    /// Schedules another attempt. NIO cannot report when our duplicate has room, so the driver tries again soon, then
    /// at growing intervals.
    private func scheduleRetry() {
        retryAt = .now() + retryDelay
        retryDelay = min(retryDelay * 2, Self.lastRetry)
        setDeadline()
    }

    private func retry() {
        if sender.retry() == .blocked {
            scheduleRetry()
            return
        }
        var sessions = waiting
        waiting.removeAll(keepingCapacity: true)
        // The first session's burst was pending and has just left: the other sessions come before its next one.
        if sessions.count > 1 { sessions.append(sessions.removeFirst()) }
        for session in sessions {
            session.isWaitingForRoom = false
            context.touch(session)
        }
    }

    // MARK: Time

    private func setDeadline() {
        switch (retryAt, reopenAt) {
        case (let retry?, let reopening?): context.setDeadline(self, at: min(retry, reopening))
        case (let retry?, nil): context.setDeadline(self, at: retry)
        case (nil, let reopening?): context.setDeadline(self, at: reopening)
        case (nil, nil): context.removeDeadline(self)
        }
    }

    override final func deadlinePassed(now: NIODeadline) {
        guard !isClosed else { return }
        if let retryAt, retryAt <= now {
            self.retryAt = nil
            retry()
        }
        if let reopenAt, reopenAt <= now {
            self.reopenAt = nil
            reopen()
        }
        setDeadline()
    }
}

@available(*, unavailable)
extension SocketDriver: Sendable {}
