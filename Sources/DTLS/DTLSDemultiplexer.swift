/// The rule by which a datagram is passed to a session: a pure function of its header and of the sessions at the
/// address it came from.
///
/// Think of it as the guard of the address table. Without it a spoofed hello could end a session (RFC 6347 §4.2.8), and
/// a retransmitted hello could create a second one. The driver (`ListenerSocket`) calls ``destination(of:sessions:)``
/// for every datagram that its two fast paths do not cover.
///
/// The driver keeps at most two sessions per address: the *established* one, whose peer has authenticated itself above
/// DTLS, and a *pending* one, which the listener has created and whose peer has not authenticated itself yet. A pending
/// session ends after ``DTLSHandshakeTimer/overall``, or replaces the established one when its peer authenticates
/// itself. A newer session from the listener replaces an older pending one.
package enum DTLSDemultiplexer {
    package enum Destination: Hashable, Sendable {
        case listener
        case established
        case pending
        /// Both sessions, the pending one first: each ignores what it cannot authenticate. Only between the end of the
        /// pending session's handshake and the authentication above it, when only decryption can tell whose record it
        /// is.
        case pendingThenEstablished
        /// A record of a session that is unknown here. It may be answered by a ``DTLSUnknownSessionAlert``.
        case unknownSession
        case drop
    }

    /// The sessions at one address, by the randoms of their hellos.
    package struct Sessions: Equatable, Sendable {
        package var established: DTLSClientRandom?
        package var pending: DTLSClientRandom?
        /// Whether the pending session's handshake is complete, so that its records are encrypted.
        package var isPendingSecured: Bool

        package init(
            established: DTLSClientRandom? = nil,
            pending: DTLSClientRandom? = nil,
            isPendingSecured: Bool = false
        ) {
            self.established = established
            self.pending = pending
            self.isPendingSecured = isPendingSecured
        }
    }

    /// Returns the destination of a datagram.
    package static func destination(of kind: DTLSDatagramKind, sessions: Sessions) -> Destination {
        switch kind {
        case .invalid:
            return .drop
        case .clientHello(let random):
            if random == sessions.pending { return .pending }
            if random == sessions.established { return .established }
            return .listener
        case .handshake, .epochZeroOther, .protected(.handshake), .protected(.changeCipherSpec):
            // Only a handshake sends these, and only a pending session is in one. Without a pending session they are
            // the retransmitted end of the established session's handshake.
            if sessions.pending != nil { return .pending }
            if sessions.established != nil { return .established }
            return isProtected(kind) ? .unknownSession : .drop
        case .protected(.alert), .protected(.applicationData):
            if sessions.established == nil { return sessions.pending == nil ? .unknownSession : .pending }
            return sessions.pending != nil && sessions.isPendingSecured ? .pendingThenEstablished : .established
        }
    }

    private static func isProtected(_ kind: DTLSDatagramKind) -> Bool {
        if case .protected = kind { return true }
        return false
    }
}

/// The plaintext alert that answers a record of an unknown session. It is unauthenticated and ends nothing: its
/// receiver probes its peer.
package enum DTLSUnknownSessionAlert {
    package static let count = 15

    /// A record of epoch 0, DTLS 1.2: the alert unexpected_message as a warning, so that it cannot end a handshake
    /// either.
    private static let bytes: [UInt8] = [21, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 1, 10]

    /// Writes the alert to the first ``count`` bytes of `buffer`.
    package static func write(into buffer: UnsafeMutableRawBufferPointer) -> Int {
        buffer.copyBytes(from: bytes)
        return count
    }

    /// Returns whether a datagram is this alert.
    package static func matches(_ datagram: UnsafeRawBufferPointer) -> Bool {
        datagram.count == count && datagram.elementsEqual(bytes)
    }
}
