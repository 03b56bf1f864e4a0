import DTLS
import HopProtocol
package import NIOCore
import Transport
import Tunnel

/// The reason why an attempt to attach failed or a live tunnel ended, worded for an operator.
package struct AttachFailure: Equatable, Sendable {
    /// The `reason` label of `hopagent_attach_failures_total`.
    package enum Kind: String, CaseIterable, Sendable {
        case resolve
        case unreachable
        case refused
        case certificate
        case handshake
        case wrongProtocol = "wrong_protocol"
        case authFailed = "auth_failed"
        /// The token has as many agents attached as it allows.
        case limit
        case elsewhere
        case superseded
        case goaway
        case gatewayError = "gateway_error"
        case silent
        case lost
        case violation
        case local
    }

    var kind: Kind
    var message: String
    /// The remedy, or `nil` if none is known.
    var remedy: String?
    /// The time that the gateway asks to wait, or `nil` if it asks for none.
    var retryAfter: TimeAmount?

    package init(_ kind: Kind, _ message: String, remedy: String? = nil, retryAfter: TimeAmount? = nil) {
        self.kind = kind
        self.message = message
        self.remedy = remedy
        self.retryAfter = retryAfter
    }

    /// Whether another address of the same name may succeed.
    var isAddressSpecific: Bool { kind == .unreachable || kind == .refused }

    /// The class of the failure for ``Backoff``.
    package func backoff(wasLive: Bool) -> Backoff.Failure {
        if wasLive { return .lost }
        // A gateway that is about to stop redirects at once, and its successor may be running already.
        return kind == .refused || kind == .elsewhere ? .refused : .failed
    }
}

extension AttachFailure {
    /// Creates the failure of a tunnel that closed.
    ///
    /// - Parameter gatewayError: The ERROR that the gateway sent before it closed, or `nil`. It explains the close
    ///   better than the close reason.
    init(_ reason: SessionCloseReason, gatewayError: ErrorMessage?) {
        if let gatewayError {
            let retryAfter = Self.retryAfter(gatewayError.retryAfterMilliseconds)
            self = .closed(gatewayError.code, text: gatewayError.message, retryAfter: retryAfter)
            return
        }
        self =
            switch reason {
            case .peer(let code, let text): .closed(HopCode(code), text: text, retryAfter: nil)
            case .local(_, let text): AttachFailure(.local, text)
            case .violation(let error): AttachFailure(.violation, "the gateway violated the protocol: \(error)")
            case .idleTimeout: AttachFailure(.silent, "nothing received from the gateway within the idle timeout")
            case .refused:
                AttachFailure(
                    .refused,
                    "no process listens at this address and UDP port",
                    remedy: "Start the gateway, or check the address and its dtls_listen port."
                )
            case .handshakeTimeout: .unreachable
            case .handshakeFailed(let error): .handshake(error)
            case .dtls(let error): AttachFailure(.lost, error.map { "\($0)" } ?? "the gateway ended the session")
            case .wrongProtocol(let name):
                AttachFailure(
                    .wrongProtocol,
                    "the peer negotiated \(name ?? "no known protocol"), not hop/1",
                    remedy: "Check that the address is a gateway's tunnel port and that both have matching versions."
                )
            case .notAuthenticated:
                AttachFailure(.gatewayError, "the gateway did not receive HELLO in time")
            case .replaced, .evicted: AttachFailure(.lost, "another session has replaced this one")
            case .listenerClosed: AttachFailure(.lost, "the gateway stopped")
            case .socket(let error): AttachFailure(.unreachable, "\(error)")
            }
    }

    static let unreachable = AttachFailure(
        .unreachable,
        "no answer to the handshake",
        remedy: "Check the address and that no firewall on the path blocks UDP to this port."
    )

    /// The time that the gateway asks to wait, at most an hour, or `nil` for 0.
    static func retryAfter(_ milliseconds: UInt64) -> TimeAmount? {
        milliseconds == 0 ? nil : .milliseconds(Int64(min(milliseconds, 3_600_000)))
    }

    /// The failure that a code of the gateway stands for.
    private static func closed(_ code: HopCode, text: String, retryAfter: TimeAmount?) -> AttachFailure {
        let text = text.isEmpty ? code.name : text
        switch code {
        case .authFailed:
            return AttachFailure(
                .authFailed,
                "the gateway refused the token: \(text)",
                remedy: "Check the token (it may be wrong or revoked), and that it allows these services and hosts;"
                    + " \"hopgate token create\" makes a new one.",
                retryAfter: retryAfter
            )
        case .busy:
            return AttachFailure(
                .limit,
                "the gateway refused this agent: \(text)",
                remedy: "Stop another agent of this token, or create a token for this agent.",
                retryAfter: retryAfter
            )
        case .superseded: return AttachFailure(.superseded, text, retryAfter: retryAfter)
        case .noError: return AttachFailure(.goaway, "the gateway closed the tunnel: \(text)", retryAfter: retryAfter)
        default: return AttachFailure(.gatewayError, "the gateway closed the tunnel: \(text)", retryAfter: retryAfter)
        }
    }

    private static func handshake(_ error: DTLSError?) -> AttachFailure {
        guard let error else { return AttachFailure(.handshake, "the gateway ended the handshake") }
        switch error.code {
        case .unknownAuthority:
            return AttachFailure(
                .certificate,
                "the gateway's certificate does not verify: \(error.message)",
                remedy:
                    "If the gateway uses its development CA, give its root with --ca-file, or its SHA-256 with --pin."
            )
        case .nameMismatch:
            return AttachFailure(
                .certificate,
                "the gateway's certificate does not verify: \(error.message)",
                remedy: "Dial the name that is in the certificate, or give that name with --server-name."
            )
        case .certificateExpired, .certificateNotYetValid:
            return AttachFailure(
                .certificate,
                "the gateway's certificate does not verify: \(error.message)",
                remedy: "Renew the gateway's certificate, and check the clocks of both machines."
            )
        case .pinMismatch:
            return AttachFailure(
                .certificate,
                "the gateway's certificate does not verify: \(error.message)",
                remedy: "The gateway's root or key has changed, or this is another gateway. Join with a new join string"
                    + " (hopgate token rotate), or with --pin and the pin that \"hopgate ca\" prints on the gateway."
                    + " If the gateway uses no development CA, leave the pin out; --ca-file names a private CA."
            )
        case .certificateInvalid:
            return AttachFailure(.certificate, "the gateway's certificate does not verify: \(error.message)")
        case .noApplicationProtocol:
            return AttachFailure(
                .wrongProtocol,
                error.message,
                remedy: "Check that the address is a gateway's tunnel port and that both have matching versions."
            )
        case .handshakeTimeout: return .unreachable
        default: return AttachFailure(.handshake, "the handshake failed: \(error)")
        }
    }
}
