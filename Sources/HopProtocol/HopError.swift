/// The error of this module: what a peer sent on a tunnel stream broke the rules of `hop/1`, or what we were asked to
/// send does not fit them.
package struct HopError: Error, Equatable, Sendable, CustomStringConvertible {
    package enum Code: Equatable, Sendable {
        /// The peer broke a rule. On a request stream it resets that stream, on the control stream it ends the tunnel.
        case violation
        /// A length is above its bound (see ``HopLimits``).
        case tooLarge
        /// FIN came before the message was complete: the message is aborted, nobody broke a rule.
        case aborted
    }

    package var code: Code
    package var message: String

    package init(_ code: Code, _ message: String) {
        self.code = code
        self.message = message
    }

    /// The code that a stream is reset with for this error.
    package var resetCode: HopCode { .protocolViolation }

    package var description: String { "\(code): \(message)" }
}
