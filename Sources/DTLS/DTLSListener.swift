import COpenSSL
package import NIOCore

/// Why a listener did not answer a datagram.
package enum DTLSDropReason: Hashable, Sendable {
    /// No ClientHello in one piece.
    case notClientHello
    /// A ClientHello that OpenSSL cannot read.
    case malformed
    /// The answer would have been larger than the question.
    case amplification
    /// Memory.
    case exhausted
}

/// Answers hellos from addresses that have not proved themselves, and remembers nothing of them (RFC 6347 §4.2.1).
///
/// Owned by one loop: one a socket. It holds one spare SSL object; when a hello carries a right cookie, that object
/// becomes the session.
package final class DTLSListener {
    package enum Answer {
        /// The cookie is in ``pollTransmit(into:)``.
        case reply
        /// The address is proved. Its first flight is in the session's pollTransmit; the session may already be closed
        /// by a hello that is not acceptable, and has an alert to send then.
        case session(DTLSSession)
        case drop(DTLSDropReason)
    }

    private var context: DTLSContext
    private let secret: DTLSCookieSecret
    private let mtu: Int
    private var spare: OpaquePointer?

    /// - Parameter mtu: The largest UDP payload of a handshake datagram.
    package init(context: DTLSContext, secret: DTLSCookieSecret, mtu: Int = 1200) {
        precondition(context.isServer, "a listener needs a server's context")
        self.context = context
        self.secret = secret
        self.mtu = mtu
    }

    deinit {
        hop_session_free(spare)
    }

    /// Later sessions use this context; those that exist keep theirs.
    package func use(_ context: DTLSContext) {
        precondition(context.isServer, "a listener needs a server's context")
        self.context = context
        hop_session_free(spare)
        spare = nil
    }

    /// - Parameter peer: Address and port as bytes: whatever the cookie is to prove, at most 64 bytes.
    package func handle(datagram: UnsafeRawBufferPointer, peer: UnsafeRawBufferPointer, now: NIODeadline) -> Answer {
        precondition(peer.count <= HOP_MAX_PEER_BYTES, "the address bytes are too many")
        guard case .clientHello = DTLSDatagramKind.classify(datagram) else { return .drop(.notClientHello) }
        let candidate = spare ?? hop_session_new(context.handle, true, DTLSSession.handshakeMTU(mtu))
        guard let candidate else {
            _ = OpenSSLErrorQueue.drain()
            return .drop(.exhausted)
        }
        spare = candidate
        // What the driver did not fetch belongs to another peer.
        hop_session_discard_queue(candidate)
        let result = secret.withKeys(now: now) { keys in
            hop_session_listen(candidate, datagram.baseAddress, datagram.count, peer.baseAddress, peer.count, keys)
        }
        guard result == HOP_DONE else {
            let reply = hop_session_queued_bytes(candidate)
            if reply == 0 { return .drop(.malformed) }
            if reply <= datagram.count { return .reply }
            hop_session_discard_queue(candidate)
            return .drop(.amplification)
        }
        spare = nil
        return .session(DTLSSession(accepted: candidate, context: context, now: now))
    }

    /// The answer to the last datagram; nil: none.
    package func pollTransmit(into buffer: UnsafeMutableRawBufferPointer) -> Int? {
        guard let spare else { return nil }
        let count = hop_session_next_datagram(spare, buffer.baseAddress, buffer.count)
        return count > 0 ? count : nil
    }
}
