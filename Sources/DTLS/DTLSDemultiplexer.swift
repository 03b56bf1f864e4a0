/// Where a datagram goes, from its header and from what is known of the address it came from: a pure rule, without
/// which a spoofed hello could end a session (RFC 6347 §4.2.8), and a retransmitted one could build a second.
///
/// The driver keeps at most two sessions an address: the *established* one, whose peer has proved itself above DTLS,
/// and a *pending* one, which the listener gave and whose peer has not yet. A pending session ends after
/// ``DTLSHandshakeTimer/overall``, or takes the other's place when its peer has proved itself; a newer one from the
/// listener takes the place of an older pending one.
package enum DTLSDemultiplexer {
    package enum Destination: Hashable, Sendable {
        case listener
        case established
        case pending
        /// Both, the pending one first: each drops in silence what it cannot authenticate. Only between the end of the
        /// pending session's handshake and the proof above it, when only decryption tells whose record it is.
        case pendingThenEstablished
        /// A record of a session that is unknown here: may be answered by a ``DTLSUnknownSessionAlert``.
        case unknownSession
        case drop
    }

    /// What is known of one address.
    package struct Sessions: Equatable, Sendable {
        package var established: DTLSClientRandom?
        package var pending: DTLSClientRandom?
        /// The pending session's handshake is complete: its records are encrypted from here on.
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

    package static func destination(of kind: DTLSDatagramKind, sessions: Sessions) -> Destination {
        switch kind {
        case .invalid:
            return .drop
        case .clientHello(let random):
            if random == sessions.pending { return .pending }
            if random == sessions.established { return .established }
            return .listener
        case .handshake, .epochZeroOther, .protected(.handshake), .protected(.changeCipherSpec):
            // Only a handshake sends these, and only a pending session is in one. Without one they are the end of the
            // established session's handshake, sent again.
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

/// The plaintext alert that answers a record of an unknown session. It proves nothing and ends nothing: whoever
/// receives it asks its peer for a sign of life.
package enum DTLSUnknownSessionAlert {
    package static let count = 15

    /// A record of epoch 0, DTLS 1.2: a warning, so that it cannot end a handshake either, unexpected_message.
    private static let bytes: [UInt8] = [21, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 1, 10]

    /// Writes it to the first ``count`` bytes.
    package static func write(into buffer: UnsafeMutableRawBufferPointer) -> Int {
        buffer.copyBytes(from: bytes)
        return count
    }

    package static func matches(_ datagram: UnsafeRawBufferPointer) -> Bool {
        datagram.count == count && datagram.elementsEqual(bytes)
    }
}
