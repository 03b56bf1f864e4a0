package import NIOCore
package import Tunnel

/// One bidirectional stream of a session, as its user sees it on `userLoop`, whichever loop the session is on.
///
/// Think of it as two halves: the user's half, confined to `userLoop`, and the session's half, confined to the
/// session's loop. Between them pass ``LoopMessage``s in order; when both loops are the same, calls are direct. That
/// makes the class `Sendable`.
///
/// The user calls ``write(_:)`` while ``isWritable``, ``finish()``, ``reset(_:)``, ``stopSending(_:)`` and, for bytes
/// it has drained, ``consumed(_:)``, all on `userLoop`. The stream calls its ``StreamHandler`` there. Sizes are bytes;
/// no method throws, failures arrive as ``StreamFailure``. The directions end independently of each other (RFC 9000
/// §3).
package final class TunnelStream: @unchecked Sendable {
    package let userLoop: any EventLoop
    /// The session. Removed from the control stream when the session is closed, since each would keep the other alive;
    /// that stream has both halves on one loop. All calls that use it check first whether the stream is closed.
    private(set) var session: TunnelSession!
    let userContext: LoopContext
    /// Whether user and session share a loop.
    let isLocal: Bool

    // MARK: The user's half

    /// The user of the stream. Set it before anything is read; it is cleared after the last callback.
    package var handler: (any StreamHandler)? {
        didSet {
            if isReadHeld, handler != nil, !isClosed {
                isReadHeld = false
                session.resumeReading(self)
            }
        }
    }
    /// Whether something can be read and no handler was set to receive it.
    private var isReadHeld = false
    /// The bytes that ``write(_:)`` has accepted.
    private var written = 0
    /// The bytes that are written and, as far as this half knows, not sent: on the way to the session's loop or in the
    /// tunnel.
    private var outstanding = 0
    /// Whether ``isWritable`` has become false, so that the handler is called when it becomes true again.
    private var isBlocked = false
    /// Whether the session's loop has been asked for a report of sent bytes that has not arrived yet.
    private var isReportWanted = false
    /// Whether our direction is finished, reset or stopped, so that nothing is written any more.
    private var isSendingClosed = false
    /// Whether the stream has failed or closed, so that no callback follows.
    private var isClosed = false
    /// Whether the last callback of a stream that the peer reset is running: the user may still reset its own direction
    /// from there.
    private var isFailing = false
    /// The drained bytes whose credit is returned at the end of the turn.
    private var credit = 0

    // MARK: The session's half

    /// The state of the stream in its tunnel.
    enum State {
        case unopened
        case open(StreamID)
        case closed
    }

    var state: State
    /// The bytes given to the tunnel.
    var accepted = 0
    /// Whether a report is owed when the tunnel reports that the stream is writable.
    var owesReport = false
    /// Whether the end of the peer's direction has been delivered.
    var isFinishDelivered = false

    /// The written and unsent bytes from which on ``isWritable`` is false.
    package static let highMark = 256 << 10
    /// The unsent bytes from which on the user's half asks for reports, so that they come before it is blocked.
    private static let reportMark = 128 << 10

    init(session: TunnelSession, userContext: LoopContext, state: State, handler: (any StreamHandler)?) {
        self.session = session
        self.userContext = userContext
        userLoop = userContext.loop
        isLocal = userContext === session.context
        self.state = state
        self.handler = handler
    }

    // MARK: Calls of the user

    /// Whether fewer than 256 KiB are written and not yet sent, bytes on the way between loops included.
    /// ``StreamHandler/streamWritable()`` is called when it becomes true again. Also false once nothing may be written
    /// any more.
    package var isWritable: Bool { !isSendingClosed && outstanding < Self.highMark }

    /// Queues bytes; they are sent at the end of the loop's turn. They are always accepted: the caller limits itself by
    /// ``isWritable``.
    package func write(_ bytes: ByteBuffer) {
        userLoop.preconditionInEventLoop()
        let count = bytes.readableBytes
        guard !isSendingClosed, count > 0 else { return }
        written &+= count
        outstanding &+= count
        if isLocal {
            session.write(self, bytes)
            if outstanding >= Self.reportMark { outstanding = session.unsentBytes(self) }
        } else {
            let wantsReport = outstanding >= Self.reportMark && !isReportWanted
            if wantsReport { isReportWanted = true }
            userContext.post(.write(self, bytes, wantsReport: wantsReport), to: session.context)
        }
        if outstanding >= Self.highMark { isBlocked = true }
    }

    /// Ends our direction (FIN) after the bytes written so far.
    package func finish() {
        userLoop.preconditionInEventLoop()
        guard !isSendingClosed else { return }
        isSendingClosed = true
        if isLocal {
            session.finish(self)
        } else {
            userContext.post(.finish(self), to: session.context)
        }
    }

    /// Abandons our direction (RESET_STREAM): bytes that have not been delivered may never be. Allowed after
    /// ``finish()`` too.
    package func reset(_ code: ApplicationErrorCode) {
        userLoop.preconditionInEventLoop()
        isSendingClosed = true
        guard !isClosed || isFailing else { return }
        if isLocal {
            session.reset(self, code)
        } else {
            userContext.post(.resetSending(self, code), to: session.context)
        }
    }

    /// Asks the peer to stop sending (STOP_SENDING). Bytes that were on their way here may still be read. The handler
    /// is not called for anything that arrives later, including the peer's reset.
    package func stopSending(_ code: ApplicationErrorCode) {
        userLoop.preconditionInEventLoop()
        guard !isClosed else { return }
        if isLocal {
            session.stopSending(self, code)
        } else {
            userContext.post(.stopSending(self, code), to: session.context)
        }
    }

    /// Returns `count` bytes of flow-control credit to the peer: as many of the bytes read have been drained. Credit is
    /// collected over the loop's turn.
    package func consumed(_ count: Int) {
        userLoop.preconditionInEventLoop()
        guard count > 0, !isClosed else { return }
        if isLocal {
            session.consumed(self, count)
            return
        }
        if credit == 0 { userContext.scheduleCredit(self) }
        credit &+= count
    }

    // MARK: Notifications to the user's half

    func userRead(_ bytes: ByteBuffer) {
        if let handler {
            handler.streamRead(bytes)
        } else if !isClosed {
            // Without a handler the bytes are never drained, and the peer must not wait for credit for ever.
            consumed(bytes.readableBytes)
        }
    }

    func userFinished() {
        handler?.streamFinished()
    }

    func userFailed(_ failure: StreamFailure) {
        guard !isClosed else { return }
        isClosed = true
        let mayReset: Bool
        if case .reset = failure.reason { mayReset = true } else { mayReset = false }
        if !mayReset { isSendingClosed = true }
        isFailing = mayReset
        handler?.streamFailed(failure)
        handler = nil
        // The user no longer uses the stream, so our direction must not stay open.
        if mayReset && !isSendingClosed { reset(.cancelled) }
        isFailing = false
    }

    func userStopped(code: ApplicationErrorCode) {
        isSendingClosed = true
        handler?.streamStopped(code: code)
    }

    func userSent(total: Int) {
        isReportWanted = false
        outstanding = written &- total
        if outstanding >= Self.reportMark && !isSendingClosed {
            isReportWanted = true
            userContext.post(.wantsReport(self), to: session.context)
        }
        resumeWriting()
    }

    /// Reports unsent bytes to a user on the session's own loop.
    func userUnsent(_ count: Int) {
        outstanding = count
        resumeWriting()
    }

    private func resumeWriting() {
        guard isBlocked, isWritable else { return }
        isBlocked = false
        handler?.streamWritable()
    }

    func userClosed() {
        isClosed = true
        isSendingClosed = true
        handler = nil
    }

    /// Returns the collected credit. Called on the user's loop at the end of its turn.
    func returnCredit() {
        let count = credit
        credit = 0
        userContext.post(.consumed(self, count), to: session.context)
    }

    /// Releases the session after it has closed. Called on the loop that both halves share.
    func detach() {
        precondition(isLocal, "the other half may still use it")
        userClosed()
        session = nil
    }

    // MARK: Queries of the session's half, on the session's loop

    /// Returns whether bytes may be read from the tunnel now. If not, setting the handler resumes delivery.
    func mayDeliver() -> Bool {
        guard isLocal, handler == nil, !isClosed else { return true }
        isReadHeld = true
        return false
    }
}
