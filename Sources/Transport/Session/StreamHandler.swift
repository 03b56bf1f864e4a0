package import NIOCore
package import Tunnel

/// What a stream tells its user. All calls come on the stream's user loop, in order, and never from inside a call of
/// the user's to the stream; the handler may write, reset and close from inside them.
package protocol StreamHandler: AnyObject {
    /// In-order bytes. Give credit back with ``TunnelStream/consumed(_:)`` when they were drained, not when queued.
    func streamRead(_ bytes: ByteBuffer)
    /// The peer ended its direction after the last byte.
    func streamFinished()
    /// The peer reset the stream, it could not be opened, or the session ended. Nothing follows.
    func streamFailed(_ failure: StreamFailure)
    /// The peer reads no more: write no more. Reading goes on.
    func streamStopped(code: ApplicationErrorCode)
    /// ``TunnelStream/isWritable`` became true again.
    func streamWritable()
}

/// Why a stream ended before its time.
package struct StreamFailure: Error, Equatable, Sendable {
    package enum Reason: Equatable, Sendable {
        /// RESET_STREAM of the peer, or this side shed it (BUSY).
        case reset(code: ApplicationErrorCode)
        /// The session it belonged to is over.
        case sessionEnded
        /// It was never opened: the peer allows no more streams, or the session is not established or is over.
        case refused
    }

    package var reason: Reason
    /// False proves that the peer saw nothing of this stream, so the request did not start.
    package var anyByteSent: Bool

    package init(reason: Reason, anyByteSent: Bool) {
        self.reason = reason
        self.anyByteSent = anyByteSent
    }
}
