import COpenSSL
package import NIOCore

/// The reason for which a listener did not answer a datagram.
package enum DTLSDropReason: Hashable, Sendable {
    /// The datagram does not contain a ClientHello in one piece.
    case notClientHello
    /// OpenSSL cannot read the ClientHello.
    case malformed
    /// The answer would have been larger than the hello.
    case amplification
    /// Memory is exhausted.
    case exhausted
    /// The peer has proved its address, and the caller did not admit it.
    case notAdmitted
}

/// Answers hellos from addresses that are not proved yet, and keeps no state about them (RFC 6347 §4.2.1).
///
/// Owned by one loop; there is one for each socket. It holds one spare SSL object. When a hello carries a valid cookie,
/// that object becomes the session.
package final class DTLSListener {
    package enum Answer {
        /// The hello had no valid cookie. The answer with one is in ``pollTransmit(into:)``.
        case reply
        /// The address is proved. The session's first flight is in its `pollTransmit`. A hello that is not acceptable
        /// may have closed the session already; it then has an alert to send.
        case session(DTLSSession)
        case drop(DTLSDropReason)
    }

    private var context: DTLSContext
    private let secret: DTLSCookieSecret
    private let mtu: Int
    private var spare: OpaquePointer?

    /// Creates a listener.
    ///
    /// - Parameters:
    ///   - context: The context of new sessions.
    ///   - secret: The secret of the cookies.
    ///   - mtu: The largest UDP payload of a handshake datagram in bytes.
    package init(context: DTLSContext, secret: DTLSCookieSecret, mtu: Int = 1200) {
        precondition(context.isServer, "a listener needs a server's context")
        self.context = context
        self.secret = secret
        self.mtu = mtu
    }

    deinit {
        hop_session_free(spare)
    }

    /// Uses another context for later sessions. Existing sessions keep theirs.
    package func use(_ context: DTLSContext) {
        precondition(context.isServer, "a listener needs a server's context")
        self.context = context
        hop_session_free(spare)
        spare = nil
    }

    /// Handles a ClientHello.
    ///
    /// - Parameters:
    ///   - datagram: The datagram; not used after the call.
    ///   - peer: The address and port as bytes, which the cookie is to prove; at most 64 bytes.
    ///   - now: The current time.
    ///   - admit: Returns whether the peer may have a session. Called once its address is proved, before the handshake
    ///     costs anything.
    package func handle(
        datagram: UnsafeRawBufferPointer,
        peer: UnsafeRawBufferPointer,
        now: NIODeadline,
        admit: () -> Bool = { true }
    ) -> Answer {
        precondition(peer.count <= HOP_MAX_PEER_BYTES, "the address bytes are too many")
        guard case .clientHello = DTLSDatagramKind.classify(datagram) else { return .drop(.notClientHello) }
        let candidate = spare ?? hop_session_new(context.handle, true, DTLSSession.handshakeMTU(mtu))
        guard let candidate else {
            _ = OpenSSLErrorQueue.drain()
            return .drop(.exhausted)
        }
        spare = candidate
        // Datagrams that the driver did not poll belong to another peer.
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
        guard admit() else {
            hop_session_free(candidate)
            return .drop(.notAdmitted)
        }
        return .session(DTLSSession(accepted: candidate, context: context, now: now))
    }

    /// Returns the answer to the last datagram, or `nil` if there is none.
    package func pollTransmit(into buffer: UnsafeMutableRawBufferPointer) -> Int? {
        guard let spare else { return nil }
        let count = hop_session_next_datagram(spare, buffer.baseAddress, buffer.count)
        return count > 0 ? count : nil
    }
}
