package import NIOCore
package import Tunnel

/// One bidirectional stream of a session, as its user sees it on `userLoop`, wherever the session lives.
///
/// It has two halves: the user's, touched on `userLoop` alone, and the session's, touched on the session's loop alone.
/// Between them go messages in order; that is what makes it `Sendable`. When both loops are one, calls are direct.
package final class TunnelStream: @unchecked Sendable {
    package let userLoop: any EventLoop
    /// Its session. Taken away from the control stream when the session is over, for each would keep the other alive;
    /// that stream has both halves on one loop. All calls that use it ask first whether the stream is over.
    private(set) var session: TunnelSession!
    let userContext: LoopContext
    /// User and session share a loop.
    let isLocal: Bool

    // MARK: The user's half

    /// Set before anything is read; cleared after the last callback.
    package var handler: (any StreamHandler)? {
        didSet {
            if isReadHeld, self.handler != nil, !isClosed {
                isReadHeld = false
                session.resumeReading(self)
            }
        }
    }
    /// Something can be read and no handler was there to take it.
    private var isReadHeld = false
    /// Bytes that ``write(_:)`` took.
    private var written = 0
    /// Bytes written and, as far as is known here, not sent: on the way to the session's loop or in the tunnel.
    private var outstanding = 0
    private var isBlocked = false
    private var isReportWanted = false
    /// Finished, reset or stopped: nothing is written any more.
    private var isSendingClosed = false
    /// Failed or closed: no callback comes any more.
    private var isClosed = false
    /// Inside the last callback of a stream that the peer reset: the user may still reset its own direction.
    private var isFailing = false
    private var credit = 0

    // MARK: The session's half

    /// Where the stream stands in its tunnel.
    enum State {
        case unopened
        case open(StreamID)
        case closed
    }

    var state: State
    /// Bytes given to the tunnel.
    var accepted = 0
    /// A report is owed when the tunnel says that the stream is writable.
    var owesReport = false
    /// The end of the peer's direction was passed on.
    var isFinishDelivered = false

    /// Written and unsent bytes from which ``isWritable`` is false.
    package static let highMark = 256 << 10
    /// From here on the user's half asks for reports, so that they come before it is blocked.
    private static let reportMark = 128 << 10

    init(session: TunnelSession, userContext: LoopContext, state: State, handler: (any StreamHandler)?) {
        self.session = session
        self.userContext = userContext
        userLoop = userContext.loop
        isLocal = userContext === session.context
        self.state = state
        self.handler = handler
    }

    // MARK: What the user calls

    /// False while 256 KiB or more are written and not yet sent, bytes on the way between loops included; then
    /// ``StreamHandler/streamWritable()`` follows. Also false once nothing may be written any more.
    package var isWritable: Bool { !isSendingClosed && outstanding < Self.highMark }

    /// Queues bytes; they terminate at the end of the loop's turn. Always taken, so obey ``isWritable``.
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

    /// Ends our direction after what was written.
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

    /// Abandons our direction: what was not delivered may never be. Also after ``finish()``.
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

    /// Asks the peer to send no more. What was on its way here may still be read; of what arrives later, also of the
    /// peer's reset, the handler hears nothing.
    package func stopSending(_ code: ApplicationErrorCode) {
        userLoop.preconditionInEventLoop()
        guard !isClosed else { return }
        if isLocal {
            session.stopSending(self, code)
        } else {
            userContext.post(.stopSending(self, code), to: session.context)
        }
    }

    /// So many bytes that were read are drained: grants the peer credit for as many. Gathered over the loop's turn.
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

    // MARK: What the user's half is told

    func userRead(_ bytes: ByteBuffer) {
        if let handler {
            handler.streamRead(bytes)
        } else if !isClosed {
            // Without a handler nobody will drain them; the peer must not wait for credit for ever.
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
        // The user is through with it, so our direction must not stay open.
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

    /// The same news on the session's own loop.
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

    /// On the user's loop, at the end of its turn.
    func returnCredit() {
        let count = credit
        credit = 0
        userContext.post(.consumed(self, count), to: session.context)
    }

    /// The session is over; on the loop that both halves share.
    func detach() {
        precondition(isLocal, "the other half may still use it")
        userClosed()
        session = nil
    }

    // MARK: What the session's half asks, on the session's loop

    /// Whether bytes may be taken out of the tunnel: if not, setting the handler resumes.
    func mayDeliver() -> Bool {
        guard isLocal, handler == nil, !isClosed else { return true }
        isReadHeld = true
        return false
    }
}
