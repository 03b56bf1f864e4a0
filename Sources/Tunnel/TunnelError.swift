/// A violation by the peer, or a fault of ours, that ends the whole tunnel.
///
/// Codes are the tunnel-level part of the table in `docs/protocol.md`; they travel in CONNECTION_CLOSE.
package struct TunnelError: Error, Equatable, CustomStringConvertible {
    package enum Code: UInt64, Sendable {
        case noError = 0
        case protocolViolation = 32
        case flowControl = 33
        case finalSize = 34
        case internalError = 35
        case idle = 38
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

/// Why a tunnel ended.
package enum TunnelCloseReason: Error, Equatable, Sendable {
    /// Our side called ``TunnelConnection/close(code:reason:now:)``.
    case local(code: UInt64, reason: String)
    /// The peer sent CONNECTION_CLOSE.
    case peer(code: UInt64, reason: String)
    /// The peer broke the protocol; it has been told so.
    case violation(TunnelError)
    /// Nothing was received for the idle timeout (RFC 9000 §10.1).
    case idleTimeout
}
