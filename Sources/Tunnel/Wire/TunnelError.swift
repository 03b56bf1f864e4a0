/// A violation by the peer, or a failure of this side, that ends the whole tunnel.
///
/// Codes are the tunnel-level part of the table in `docs/protocol.md`; CONNECTION_CLOSE carries them.
package struct TunnelError: Error, Equatable, CustomStringConvertible {
    package enum Code: Sendable {
        case noError
        case protocolViolation
        case flowControl
        case finalSize
        case internalError
        case idle

        /// The code that CONNECTION_CLOSE carries.
        package var wireCode: ApplicationErrorCode {
            switch self {
            case .noError: .noError
            case .protocolViolation: .protocolViolation
            case .flowControl: .flowControl
            case .finalSize: .finalSizeError
            case .internalError: .internalError
            case .idle: .idle
            }
        }
    }

    package var code: Code
    package var message: String

    package init(_ code: Code, _ message: String) {
        self.code = code
        self.message = message
    }

    package var description: String { "\(code): \(message)" }

    static func malformed(_ what: String) -> TunnelError { TunnelError(.protocolViolation, "malformed \(what)") }
}

/// The reason for the end of a tunnel.
package enum TunnelCloseReason: Error, Equatable, Sendable {
    /// This side called ``TunnelConnection/close(code:reason:now:)``.
    case local(code: ApplicationErrorCode, reason: String)
    /// The peer sent CONNECTION_CLOSE.
    case peer(code: ApplicationErrorCode, reason: String)
    /// The peer broke the protocol. CONNECTION_CLOSE with the error's code is being sent to it.
    case violation(TunnelError)
    /// No packet was received for the idle timeout (RFC 9000 §10.1).
    case idleTimeout
}
