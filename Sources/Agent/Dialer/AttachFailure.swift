import DTLS
import HopProtocol
package import NIOCore
import Transport
import Tunnel

/// Why an attempt to attach failed, or a live tunnel ended, as an operator should read it.
package struct AttachFailure: Equatable, Sendable {
    package enum Kind: String, CaseIterable, Sendable {
        case resolve
        case unreachable
        case refused
        case certificate
        case handshake
        case wrongProtocol = "wrong_protocol"
        case authFailed = "auth_failed"
        /// The token has as many agents as it may have.
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
    /// What to do about it, when that is known.
    var remedy: String?
    var retryAfter: TimeAmount?

    package init(_ kind: Kind, _ message: String, remedy: String? = nil, retryAfter: TimeAmount? = nil) {
        self.kind = kind
        self.message = message
        self.remedy = remedy
        self.retryAfter = retryAfter
    }

    /// Another address of the same name may do better.
    var isOfAddress: Bool { kind == .unreachable || kind == .refused }

    package func backoff(wasLive: Bool) -> Backoff.Failure {
        if wasLive { return .lost }
        // A gateway that is about to stop answers at once and its successor may be there already.
        return kind == .refused || kind == .elsewhere ? .refused : .failed
    }
}

extension AttachFailure {
    /// What the gateway said before it closed, if it said anything, explains the close better than its code.
    static func of(_ reason: SessionCloseReason, said: ErrorMessage?, wasLive: Bool) -> AttachFailure {
        if let said {
            return of(code: said.code, text: said.message, retryAfter: retryAfter(said.retryAfterMilliseconds))
        }
        switch reason {
        case .peer(let code, let text): return of(code: HopCode(code), text: text, retryAfter: nil)
        case .local(_, let text): return AttachFailure(.local, text)
        case .violation(let error): return AttachFailure(.violation, "the gateway broke the protocol: \(error)")
        case .idleTimeout: return AttachFailure(.silent, "nothing came from the gateway for the idle timeout")
        case .lost: return AttachFailure(.lost, "the gateway does not know this tunnel any more")
        case .refused:
            return AttachFailure(
                .refused,
                "nobody listens at this address and UDP port",
                remedy: "Start the gateway, or check the address and its dtls_listen port."
            )
        case .handshakeTimeout: return .unreachable
        case .handshakeFailed(let error): return handshake(error)
        case .dtls(let error):
            return AttachFailure(.lost, error.map { "\($0)" } ?? "the gateway ended the session")
        case .wrongProtocol(let name):
            return AttachFailure(
                .wrongProtocol,
                "the other end speaks \(name ?? "no known protocol"), not hop/1",
                remedy: "Check that the address is a gateway's tunnel port and that both have matching versions."
            )
        case .notAuthenticated: return AttachFailure(.gatewayError, "the gateway did not get our HELLO in time")
        case .replaced: return AttachFailure(.lost, "another session took this one's place")
        case .listenerClosed: return AttachFailure(.lost, "the gateway stopped")
        case .socket(let error): return AttachFailure(.unreachable, "\(error)")
        }
    }

    static let unreachable = AttachFailure(
        .unreachable,
        "no answer to our handshake",
        remedy: "Check the address and that UDP to this port is allowed on the way."
    )

    static func retryAfter(_ milliseconds: UInt64) -> TimeAmount? {
        milliseconds == 0 ? nil : .milliseconds(Int64(min(milliseconds, 3_600_000)))
    }

    private static func of(code: HopCode, text: String, retryAfter: TimeAmount?) -> AttachFailure {
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
                remedy: "Stop another agent of this token, or give this one a token of its own.",
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
                remedy:
                    "The gateway's key changed, or this is another gateway: check the fingerprint it prints at start."
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
