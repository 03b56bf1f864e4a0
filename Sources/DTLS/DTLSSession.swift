import COpenSSL
package import NIOCore

/// One DTLS 1.2 association (RFC 6347): an SSL object without a socket, clock or thread.
///
/// Think of it as a filter between datagrams and plaintext records. The driver (`TunnelSession`) owns it and calls the
/// verbs of a sans-IO connection: ``handle(datagram:now:)`` for each datagram, then ``read(into:)`` until it returns
/// `nil`; after any call ``pollTransmit(into:)`` until it returns `nil`, for handshake flights and alerts;
/// ``handleTimeout(now:)`` when ``pollTimeout()`` has passed. ``seal(_:into:)`` encrypts application records. ``state``
/// is checked after each call.
///
/// Times are `NIODeadline`, sizes are bytes. Only the initialiser and ``seal(_:into:)`` throw; any other failure sets
/// ``state`` to `closed` and ``failure`` to its reason. Confined to one loop.
package final class DTLSSession {
    package enum State: Hashable, Sendable {
        case handshaking
        case established
        case closed
    }

    /// The most plaintext bytes of one record, and so the smallest buffer for ``read(into:)``.
    package static let maxPlaintext = HOP_MAX_PLAINTEXT
    /// The most bytes of a handshake datagram, and so the smallest useful buffer for ``pollTransmit(into:)``.
    package static let maxHandshakeDatagram = 4_096

    package private(set) var state = State.handshaking
    /// The reason for which the session is closed, or `nil` if close_notify of either side closed it.
    package private(set) var failure: DTLSError?
    /// The bytes that a record adds to its plaintext: 37 with AES-GCM, 29 with ChaCha20-Poly1305. Known once
    /// established.
    package private(set) var recordOverhead = HOP_MAX_RECORD_OVERHEAD

    let handle: OpaquePointer
    /// Keeps alive the objects that the SSL object's callbacks use.
    private let context: DTLSContext
    private(set) var timer: DTLSHandshakeTimer
    private var filter: HandshakeFilter
    private var timerStarts: UInt32 = 0
    private var timerStops: UInt32 = 0
    /// Whether the last datagram may have more records.
    private var mayHaveMore = false
    /// Whether a read has found nothing since the handshake. OpenSSL does not report records that it kept during the
    /// handshake as pending, so only such a read proves that there are none left.
    private var hasDrainedOnce = false

    /// Creates a client's session. Its first flight is ready at once.
    ///
    /// - Parameters:
    ///   - context: The context of a client.
    ///   - serverName: The name that is sent as SNI and must be in the certificate. An IP literal is not sent and must
    ///     be among the certificate's addresses. `nil` is possible with a pin only.
    ///   - mtu: The largest UDP payload of a handshake datagram in bytes.
    ///   - now: The current time.
    /// - Throws: `.configuration` if the name cannot be used, `.internalFailure` if there is no memory.
    package init(client context: DTLSContext, serverName: String?, mtu: Int, now: NIODeadline) throws(DTLSError) {
        precondition(!context.isServer, "a client needs a client's context")
        guard let handle = hop_session_new(context.handle, false, Self.handshakeMTU(mtu)) else {
            throw .internalFailure("no DTLS session can be made")
        }
        self.handle = handle
        self.context = context
        timer = DTLSHandshakeTimer(now: now)
        filter = HandshakeFilter(isServer: false)
        if let serverName {
            let name = serverName.hasSuffix(".") ? String(serverName.dropLast()) : serverName
            guard !name.isEmpty, !name.utf8.contains(0), hop_session_set_server_name(handle, name) else {
                throw .configuration("\"\(serverName)\" is not a server name")
            }
        } else if !context.isPinned {
            throw .configuration("without a pin the server's name must be known")
        }
        step(now: now, datagram: UnsafeRawBufferPointer(start: nil, count: 0))
    }

    /// Creates a server's session. `handle` has accepted its peer's cookie and holds the hello.
    init(accepted handle: OpaquePointer, context: DTLSContext, now: NIODeadline) {
        self.handle = handle
        self.context = context
        timer = DTLSHandshakeTimer(now: now)
        filter = HandshakeFilter(isServer: true, verifiesClient: context.verifiesClients)
        hop_session_set_selector(handle, selectContext, Unmanaged.passUnretained(context).toOpaque())
        step(now: now, datagram: UnsafeRawBufferPointer(start: nil, count: 0))
    }

    deinit {
        hop_session_free(handle)
    }

    static func handshakeMTU(_ mtu: Int) -> Int {
        min(max(mtu, 256), maxHandshakeDatagram)
    }

    // MARK: Input

    /// Handles one datagram from the network. Its memory may be reused when this returns. Afterwards call
    /// ``read(into:)`` until it returns `nil` (a datagram that is handled before that is lost), then
    /// ``pollTransmit(into:)`` until it returns `nil`.
    package func handle(datagram: UnsafeRawBufferPointer, now: NIODeadline) {
        guard datagram.count > 0 else { return }
        switch state {
        case .closed: return
        case .handshaking:
            let whole = beforeShortRecord(datagram, smallest: Self.smallestProtected)
            guard filter.admitsDatagram() else {
                let limit = HandshakeFilter.maxDatagrams
                return fail(DTLSError(.protocolViolation, "more than \(limit) datagrams in a handshake"))
            }
            let accepted = filter.acceptedBytes(of: whole)
            if accepted > 0 { step(now: now, datagram: UnsafeRawBufferPointer(rebasing: whole[..<accepted])) }
        case .established:
            let whole = beforeShortRecord(datagram, smallest: recordOverhead - DTLSDatagramKind.recordHeaderBytes)
            if whole.count > 0 { receive(whole) }
        }
    }

    /// Sends the last flight again, or fails the session when the handshake has taken too long.
    package func handleTimeout(now: NIODeadline) {
        guard state == .handshaking, now >= timer.deadline else { return }
        guard now < timer.giveUp else {
            let limit = DTLSHandshakeTimer.overall.nanoseconds / 1_000_000_000
            return fail(DTLSError(.handshakeTimeout, "the DTLS handshake was not complete after \(limit) s"))
        }
        timer.flightRetransmitted(now: now)
        if hop_session_retransmit(handle) == HOP_FAILED { return fail(.failure(of: handle)) }
        timerStarts = hop_session_timer_starts(handle)
    }

    /// Returns the deadline at which ``handleTimeout(now:)`` has to be called, or `nil` if there is none.
    package func pollTimeout() -> NIODeadline? {
        state == .handshaking ? timer.deadline : nil
    }

    // MARK: Output

    /// Returns the size of the next handshake datagram or alert, also when closed, or `nil` if there is none. A
    /// datagram that does not fit the buffer is lost.
    package func pollTransmit(into buffer: UnsafeMutableRawBufferPointer) -> Int? {
        let count = hop_session_next_datagram(handle, buffer.baseAddress, buffer.count)
        return count > 0 ? count : nil
    }

    /// Returns the plaintext size of the next record, or `nil` if there is none. The buffer has at least
    /// ``maxPlaintext`` bytes, since OpenSSL would silently split a record otherwise.
    package func read(into buffer: UnsafeMutableRawBufferPointer) -> Int? {
        precondition(buffer.count >= Self.maxPlaintext, "a record may not fit the buffer")
        guard mayHaveMore, state == .established else { return nil }
        var count = 0
        let result = hop_session_read(handle, buffer.baseAddress, buffer.count, &count)
        guard result == HOP_DONE else {
            mayHaveMore = false
            hasDrainedOnce = true
            end(result)
            return nil
        }
        if hasDrainedOnce { mayHaveMore = hop_session_has_pending(handle) }
        return count
    }

    /// Seals one record into `buffer` and returns its length, `plaintext.count + recordOverhead`. Records must be sent
    /// at once and in this order: the peer drops a record that is overtaken by 64 later ones.
    ///
    /// - Throws: `.notEstablished`. Any other error also closes the session.
    package func seal(
        _ plaintext: UnsafeRawBufferPointer,
        into buffer: UnsafeMutableRawBufferPointer
    ) throws(DTLSError) -> Int {
        precondition((1...Self.maxPlaintext).contains(plaintext.count), "one record holds 1 to 16,384 bytes")
        precondition(buffer.count >= plaintext.count + recordOverhead, "the record does not fit the buffer")
        guard state == .established else { throw DTLSError(.notEstablished, "the DTLS session is not established") }
        var count = 0
        let result = hop_session_seal(
            handle,
            plaintext.baseAddress,
            plaintext.count,
            buffer.baseAddress,
            buffer.count,
            &count
        )
        guard result == HOP_DONE else {
            let error = DTLSError.failure(of: handle)
            fail(error)
            throw error
        }
        return count
    }

    /// Queues close_notify if the session is established, and closes it. Idempotent.
    package func close() {
        if state == .established { hop_session_shutdown(handle) }
        state = .closed
    }

    /// Frees the record buffers (33 KB) until the next record. Called when no record has come for a while.
    package func releaseIdleBuffers() {
        guard state == .established, !mayHaveMore else { return }
        // OpenSSL refuses while the buffers contain data, which is harmless.
        _ = hop_session_free_buffers(handle)
    }

    // MARK: Steps

    private func step(now: NIODeadline, datagram: UnsafeRawBufferPointer) {
        let result = hop_session_handshake(handle, datagram.baseAddress, datagram.count)
        updateTimer(now: now)
        switch result {
        case HOP_DONE: establish()
        case HOP_WANT: break
        default: end(result)
        }
    }

    /// Updates the timer. OpenSSL reports when a flight begins to wait for its answer and when that answer is complete,
    /// but not how long it waits.
    private func updateTimer(now: NIODeadline) {
        let starts = hop_session_timer_starts(handle)
        let stops = hop_session_timer_stops(handle)
        if stops != timerStops { timer.flightAnswered(now: now) }
        if starts != timerStarts { timer.flightSent(now: now) }
        (timerStarts, timerStops) = (starts, stops)
    }

    private func establish() {
        guard hop_session_has_extended_master_secret(handle) else {
            hop_session_shutdown(handle)
            return fail(DTLSError(.noExtendedMasterSecret, "the peer does not speak the extended master secret"))
        }
        guard alpn != nil else {
            hop_session_shutdown(handle)
            return fail(DTLSError(.noApplicationProtocol, "the peer chose none of our application protocols"))
        }
        recordOverhead = hop_session_record_overhead(handle)
        state = .established
        // The rest of the last datagram, and records that overtook the end of the handshake.
        receive(UnsafeRawBufferPointer(start: nil, count: 0))
    }

    private func receive(_ datagram: UnsafeRawBufferPointer) {
        let result = hop_session_receive(handle, datagram.baseAddress, datagram.count)
        switch result {
        case HOP_DONE: mayHaveMore = true
        case HOP_WANT: hasDrainedOnce = true
        default: end(result)
        }
    }

    private func end(_ result: hop_result) {
        switch result {
        case HOP_CLOSED:
            // A close_notify is answered by our own (RFC 5246 §7.2.1).
            hop_session_shutdown(handle)
            state = .closed
        case HOP_FAILED: fail(.failure(of: handle))
        default: break
        }
    }

    private func fail(_ error: DTLSError) {
        failure = error
        state = .closed
    }

    /// The smallest protected fragment before the end of the handshake: AES-GCM's explicit nonce and its tag.
    private static let smallestProtected = 24

    /// Returns the part of a datagram before the first record that is too short for its protection. Only an attacker
    /// sends such a record. OpenSSL before 3.0.20 ends the session for it, so anyone who knows an address could end a
    /// session.
    private func beforeShortRecord(_ datagram: UnsafeRawBufferPointer, smallest: Int) -> UnsafeRawBufferPointer {
        let header = DTLSDatagramKind.recordHeaderBytes
        var position = 0
        while datagram.count - position >= header {
            let count = Int(datagram[position + 11]) << 8 | Int(datagram[position + 12])
            let isProtected = datagram[position + 3] != 0 || datagram[position + 4] != 0
            if isProtected, count < smallest { return UnsafeRawBufferPointer(rebasing: datagram[..<position]) }
            position += header + count
        }
        return datagram
    }
}

extension DTLSSession {
    /// The time between our last handshake flight that was answered and its answer, or `nil` if that flight was sent
    /// more than once.
    package var handshakeRTT: TimeAmount? {
        timer.roundTrip
    }
}

/// Selects the context by SNI. Called by OpenSSL in the middle of a handshake step; `owner` is the listener's context.
private func selectContext(owner: UnsafeMutableRawPointer?, session: OpaquePointer?, name: UnsafePointer<CChar>?) {
    let context = Unmanaged<DTLSContext>.fromOpaque(owner!).takeUnretainedValue()
    guard let selected = context.selectContext?(name.map { String(cString: $0) }) else { return }
    precondition(selected.isServer, "a server's session needs a server's context")
    hop_session_use_context(session, selected.handle)
}
