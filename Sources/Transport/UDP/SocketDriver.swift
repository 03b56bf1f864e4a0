import DTLS
import NIOCore

/// One UDP socket on one loop: NIO reads it, ``DatagramSender`` writes it, and sessions live on it.
///
/// Subclassed by the listener's and the dialer's socket, which define what happens to a datagram and to a session.
class SocketDriver: DeadlineNode, DatagramSink {
    final let context: LoopContext
    final let counters: TransportCounters
    final let sender: DatagramSender
    /// `now` of the turn that reads.
    private(set) final var turnNow = NIODeadline.now()
    private(set) final var isClosed = false

    /// NIO's side of the socket; replaced when NIO closes it.
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

    /// A driver without a socket does not exist. Written out because the compiler's own stub for it does not compile.
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

    // MARK: What subclasses say

    /// One datagram that arrived.
    func handle(_ datagram: UnsafeRawBufferPointer, from address: UDPAddress, socketAddress: SocketAddress) {}
    /// Nobody listens at the peer's port: a peerGoneIndication.
    func connectionRefused() {}
    /// The DTLS handshake is done.
    func sessionSecured(_ session: TunnelSession) {}
    /// PARAMETERS are exchanged; a handler is set before this returns, if there is to be one.
    func sessionOpened(_ session: TunnelSession) {}
    func sessionAuthenticated(_ session: TunnelSession) {}
    /// Its owner is about to be told.
    func sessionClosed(_ session: TunnelSession, reason: SessionCloseReason) {}
    /// It says nothing more: forget it.
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
        // Reading works again.
        reopenDelay = Self.firstReopening
    }

    final func received(_ datagram: UnsafeRawBufferPointer, from address: UDPAddress, socketAddress: SocketAddress) {
        guard !isClosed else { return }
        handle(datagram, from: address, socketAddress: socketAddress)
    }

    final func peerRefused() {
        connectionRefused()
    }

    final func receiveEnded() {
        context.endTurn()
    }

    /// NIO closes a channel for good after most read errors. The port is still ours through the sender's descriptor, so
    /// another channel takes over and the sessions notice nothing.
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

    /// A burst waits for room in the socket's buffer: seal nothing.
    final var isBlocked: Bool { sender.isBlocked }

    /// When the kept burst is tried again.
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

    /// Sends an answer that belongs to no session. One that finds no room is lost like any datagram.
    final func sendStateless(_ datagram: UnsafeRawBufferPointer, to address: UDPAddress) {
        guard !isBlocked else { return }
        var path = DatagramSender.Path(address: address)
        if send(datagram, segmentSize: datagram.count, path: &path) == .blocked {
            sender.discardPending()
        }
    }

    /// The session will be driven when there is room.
    final func waitForRoom(_ session: TunnelSession) {
        guard !session.isWaitingForRoom else { return }
        session.isWaitingForRoom = true
        waiting.append(session)
    }

    /// NIO cannot tell when our duplicate has room, so it is asked again: soon, then less and less often.
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
        // The first had its burst kept, which has just left: the others come before its next one.
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
