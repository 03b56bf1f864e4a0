/// The error of this module: bytes of a peer on a tunnel stream broke the rules of `hop/1`, or a message to be sent
/// does not fit them.
package struct HopError: Error, Equatable, Sendable, CustomStringConvertible {
    package enum Code: Equatable, Sendable {
        /// The peer broke a rule. On a request stream the error resets that stream, on the control stream it ends the
        /// tunnel.
        case violation
        /// A length is above its limit (see ``HopLimits``).
        case tooLarge
        /// FIN came before the message was complete: the message is aborted, but no rule was broken.
        case aborted
    }

    package var code: Code
    package var message: String

    package init(_ code: Code, _ message: String) {
        self.code = code
        self.message = message
    }

    /// The code with which a stream is reset for this error.
    package var resetCode: HopCode { .protocolViolation }

    package var description: String { "\(code): \(message)" }
}
