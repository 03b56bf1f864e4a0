import COpenSSL

/// The error of a context that could not be created, or of a session that ended other than by close_notify.
package struct DTLSError: Error, Equatable, Sendable {
    package enum Code: Hashable, Sendable {
        /// Our own files or settings: a certificate, key, CA file, pin, protocol list or name cannot be used.
        case configuration
        /// The peer's chain ends in no certificate authority that we trust.
        case unknownAuthority
        /// The peer's certificate is not for the name or address that was dialed.
        case nameMismatch
        case certificateExpired
        case certificateNotYetValid
        /// The peer's certificate is neither the pinned one, nor issued by the pinned root.
        case pinMismatch
        /// Any other result of verification, by its number X509_V_ERR_….
        case certificateInvalid(Int)
        /// No common application protocol, or none was named (RFC 7301 §3.2).
        case noApplicationProtocol
        /// The peer does not support the extended master secret (RFC 7627).
        case noExtendedMasterSecret
        /// No common cipher suite, group, signature algorithm or version.
        case noCommonParameters
        /// The peer refused us with this fatal alert (RFC 5246 §7.2.2).
        case peerAlert(UInt8)
        /// The peer sent a message that no correct peer sends.
        case protocolViolation
        /// The handshake did not complete within ``DTLSHandshakeTimer/overall``.
        case handshakeTimeout
        /// The session is not established, or no longer.
        case notEstablished
        /// A failure of memory or randomness, or a limit of OpenSSL.
        case internalFailure
    }

    package var code: Code
    /// One sentence for an operator.
    package var message: String
    /// The lines of OpenSSL's error queue, oldest first. May be empty.
    package var openSSLErrors: [String]

    package init(_ code: Code, _ message: String, openSSLErrors: [String] = []) {
        self.code = code
        self.message = message
        self.openSSLErrors = openSSLErrors
    }
}

extension DTLSError: CustomStringConvertible {
    package var description: String {
        openSSLErrors.isEmpty ? message : "\(message) (\(openSSLErrors.joined(separator: "; ")))"
    }
}

/// The content of this thread's OpenSSL error queue.
struct OpenSSLErrorQueue {
    private(set) var lines: [String] = []
    /// The reasons that came from libssl.
    private(set) var reasons: [Int32] = []

    /// Removes all entries. A remaining entry would be attributed to the next call.
    static func drain() -> OpenSSLErrorQueue {
        var queue = OpenSSLErrorQueue()
        withUnsafeTemporaryAllocation(of: CChar.self, capacity: 320) { text in
            var reason: Int32 = 0
            while hop_error_next(text.baseAddress!, text.count, &reason) {
                queue.lines.append(String(cString: text.baseAddress!))
                if reason != 0 { queue.reasons.append(reason) }
            }
        }
        return queue
    }

    /// The fatal alert that the peer sent, or `nil` if it is not among the reasons.
    var peerAlert: UInt8? {
        for reason in reasons where reason >= Int32(HOP_REASON_ALERT_BASE) {
            return UInt8(truncatingIfNeeded: reason - Int32(HOP_REASON_ALERT_BASE))
        }
        return nil
    }
}

extension DTLSError {
    static func configuration(_ message: String) -> DTLSError {
        DTLSError(.configuration, message, openSSLErrors: OpenSSLErrorQueue.drain().lines)
    }

    static func internalFailure(_ message: String) -> DTLSError {
        DTLSError(.internalFailure, message, openSSLErrors: OpenSSLErrorQueue.drain().lines)
    }

    /// Returns the error of a failed `session`, from our callbacks, the verification and the error queue, in this
    /// order.
    static func failure(of session: OpaquePointer) -> DTLSError {
        let queue = OpenSSLErrorQueue.drain()
        let (code, message) = reason(of: session, queue)
        return DTLSError(code, message, openSSLErrors: queue.lines)
    }

    private static func reason(of session: OpaquePointer, _ queue: OpenSSLErrorQueue) -> (Code, String) {
        let refusal = hop_session_refusal(session)
        if refusal == HOP_REFUSED_NO_EXTENDED_MASTER_SECRET {
            return (.noExtendedMasterSecret, "the peer does not offer the extended master secret")
        }
        if refusal == HOP_REFUSED_NO_ALPN {
            return (.noApplicationProtocol, "the peer offers none of our application protocols")
        }
        var number = 0
        var text: UnsafePointer<CChar>?
        let verdict = hop_session_verification(session, &number, &text)
        if verdict != HOP_VERIFY_OK {
            return certificate(verdict, number, text.map { String(cString: $0) } ?? "unknown reason")
        }
        if let alert = queue.peerAlert {
            // no_application_protocol (RFC 7301 §3.2) is the peer's counterpart of our own refusal.
            if alert == 120 { return (.noApplicationProtocol, "the peer accepts none of our application protocols") }
            return (.peerAlert(alert), "the peer refused with alert \(alert)")
        }
        if queue.reasons.contains(where: { hop_reason_is_no_application_protocol($0) }) {
            return (.noApplicationProtocol, "no application protocol in common with the peer")
        }
        if queue.reasons.contains(where: { hop_reason_is_no_common_parameters($0) }) {
            return (.noCommonParameters, "no protocol version or cipher suite in common with the peer")
        }
        return (.protocolViolation, "the peer violated the protocol")
    }

    private static func certificate(_ verdict: hop_verification, _ number: Int, _ text: String) -> (Code, String) {
        switch verdict {
        case HOP_VERIFY_UNKNOWN_AUTHORITY:
            return (.unknownAuthority, "the peer's certificate is from no trusted authority: \(text)")
        case HOP_VERIFY_NAME:
            return (.nameMismatch, "the peer's certificate is for another name: \(text)")
        case HOP_VERIFY_EXPIRED:
            return (.certificateExpired, "the peer's certificate is too old: \(text)")
        case HOP_VERIFY_NOT_YET_VALID:
            return (.certificateNotYetValid, "the peer's certificate is not valid yet: \(text)")
        case HOP_VERIFY_PIN:
            return (.pinMismatch, "the peer's certificate is neither pinned nor issued by the pinned root")
        default:
            return (.certificateInvalid(number), "the peer's certificate does not verify: \(text)")
        }
    }
}
