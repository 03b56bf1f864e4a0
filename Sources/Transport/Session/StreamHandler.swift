package import NIOCore
package import Tunnel

/// The user of a stream. All methods are called on the stream's user loop, in order, and never from within a call of
/// the user to the stream. The handler may write, reset and close from within them.
package protocol StreamHandler: AnyObject {
    /// In-order bytes have arrived. Return credit with ``TunnelStream/consumed(_:)`` when they have been drained, not
    /// when they are queued.
    func streamRead(_ bytes: ByteBuffer)
    /// The peer ended its direction (FIN) after the last byte.
    func streamFinished()
    /// The stream failed: the peer reset it, it could not be opened, or the session closed. No further method is
    /// called.
    func streamFailed(_ failure: StreamFailure)
    /// The peer reads no more (STOP_SENDING): write no more. Reading continues.
    func streamStopped(code: ApplicationErrorCode)
    /// ``TunnelStream/isWritable`` has become true again.
    func streamWritable()
}

/// The failure that ended a stream early.
package struct StreamFailure: Error, Equatable, Sendable {
    package enum Reason: Equatable, Sendable {
        /// The peer sent RESET_STREAM, or this side reset the stream because it held too much (INTERNAL).
        case reset(code: ApplicationErrorCode)
        /// The session of the stream closed.
        case sessionEnded
        /// The stream was never opened: the peer allows no more streams, or the session is not established or is
        /// closed.
        case refused
    }

    package var reason: Reason
    /// Whether any byte was sent. If not, the peer has seen nothing of this stream, so the request did not start.
    package var anyByteSent: Bool

    package init(reason: Reason, anyByteSent: Bool) {
        self.reason = reason
        self.anyByteSent = anyByteSent
    }
}
