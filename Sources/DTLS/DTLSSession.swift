import COpenSSL
package import NIOCore

/// One DTLS 1.2 association: an SSL object without socket, clock or thread of its own.
///
/// Belongs to one loop. After each `handle(datagram:now:)` call `read(into:)` until nil, after any call
/// `pollTransmit(into:)` until nil, and look at ``state`` and ``pollTimeout()``.
package final class DTLSSession {
    package enum State: Hashable, Sendable {
        case handshaking
        case established
        case closed
    }

    /// The plaintext of one record at most, and so the smallest buffer of ``read(into:)``.
    package static let maxPlaintext = HOP_MAX_PLAINTEXT
    /// The largest datagram of a handshake, and so the smallest useful buffer of ``pollTransmit(into:)``.
    package static let maxHandshakeDatagram = 4_096

    package private(set) var state = State.handshaking
    /// Why it is closed; nil: by close_notify, theirs or ours.
    package private(set) var failure: DTLSError?
    /// What a record adds to its plaintext: 37 with AES-GCM, 29 with ChaCha20-Poly1305. Known once established.
    package private(set) var recordOverhead = HOP_MAX_RECORD_OVERHEAD

    let handle: OpaquePointer
    /// Keeps alive what the SSL object's callbacks use.
    private let context: DTLSContext
    private(set) var timer: DTLSHandshakeTimer
    private var timerStarts: UInt32 = 0
    private var timerStops: UInt32 = 0
    /// There may be a record left of the last datagram.
    private var mayHaveMore = false
    /// OpenSSL does not count as pending what it put aside during the handshake: only a read that finds nothing tells.
    private var hasDrainedOnce = false

    /// A client's session; its first flight is ready at once.
    ///
    /// - Parameters:
    ///   - serverName: The name that is sent as SNI and must be in the certificate. An IP literal is not sent and must
    ///     be among the certificate's addresses. Nil is possible with a pin only.
    ///   - mtu: The largest UDP payload of a handshake datagram.
    package init(client context: DTLSContext, serverName: String?, mtu: Int, now: NIODeadline) throws(DTLSError) {
        precondition(!context.isServer, "a client needs a client's context")
        guard let handle = hop_session_new(context.handle, false, Self.handshakeMTU(mtu)) else {
            throw .internalFailure("no DTLS session can be made")
        }
        self.handle = handle
        self.context = context
        timer = DTLSHandshakeTimer(now: now)
        if let serverName {
            let name = serverName.hasSuffix(".") ? String(serverName.dropLast()) : serverName
            guard !name.isEmpty, !name.utf8.contains(0), hop_session_set_server_name(handle, name) else {
                throw .configuration("\"\(serverName)\" is no server name")
            }
        } else if !context.isPinned {
            throw .configuration("without a pin the server's name must be known")
        }
        step(now: now, datagram: UnsafeRawBufferPointer(start: nil, count: 0))
    }

    /// A server's session: `handle` has accepted its peer's cookie and holds the hello.
    init(accepted handle: OpaquePointer, context: DTLSContext, now: NIODeadline) {
        self.handle = handle
        self.context = context
        timer = DTLSHandshakeTimer(now: now)
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

    /// One datagram from the network; its memory may be reused when this returns. Afterwards call ``read(into:)`` until
    /// nil (a datagram that comes before that is lost), then ``pollTransmit(into:)`` until nil.
    package func handle(datagram: UnsafeRawBufferPointer, now: NIODeadline) {
        guard datagram.count > 0 else { return }
        switch state {
        case .closed: return
        case .handshaking:
            let whole = beforeShortRecord(datagram, smallest: Self.smallestProtected)
            if whole.count > 0, isPlausible(whole) { step(now: now, datagram: whole) }
        case .established:
            let whole = beforeShortRecord(datagram, smallest: recordOverhead - DTLSDatagramKind.recordHeaderBytes)
            if whole.count > 0 { receive(whole) }
        }
    }

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

    /// Call ``handleTimeout(now:)`` then. Nil: nothing to wait for.
    package func pollTimeout() -> NIODeadline? {
        state == .handshaking ? timer.deadline : nil
    }

    // MARK: Output

    /// The next handshake datagram or alert, also when closed; nil: none. One that does not fit the buffer is lost.
    package func pollTransmit(into buffer: UnsafeMutableRawBufferPointer) -> Int? {
        let count = hop_session_next_datagram(handle, buffer.baseAddress, buffer.count)
        return count > 0 ? count : nil
    }

    /// The plaintext of the next record; nil: no more. The buffer has at least ``maxPlaintext`` bytes, else OpenSSL
    /// would split a record in silence.
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

    /// Seals one record into `buffer` and returns its length, `plaintext.count + recordOverhead`. To be sent at once
    /// and in this order: the peer forgets what is overtaken by 64 later ones.
    ///
    /// - Throws: `.notEstablished`; anything else also closes the session.
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

    /// Queues close_notify when there is something to close. Idempotent.
    package func close() {
        if state == .established { hop_session_shutdown(handle) }
        state = .closed
    }

    /// Gives 33 KB of record buffers back until the next record. To be called when nothing came for a while.
    package func releaseIdleBuffers() {
        guard state == .established, !mayHaveMore else { return }
        // It refuses while there is something in them, which is no harm.
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

    /// OpenSSL says when a flight began to wait for its answer and when that was complete, not how long it waits.
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
        // The rest of the last datagram, and records that overtook the handshake's end.
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
            // The answer to a close_notify is one of our own (RFC 5246 §7.2.1).
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

    private static let clientHello: UInt8 = 1
    /// ClientKeyExchange of ECDHE and Finished stay far below; clients show no certificates here.
    private static let largestClientMessage = 1_024

    /// During a handshake OpenSSL takes unencrypted application data for a fatal violation, and five warnings, which
    /// mean nothing, for one too. A datagram with either is from somebody else, or a hint: it must not end the handshake.
    /// To a server the client sends nothing large either: OpenSSL would put fragments of huge messages aside, as much as
    /// ten of them in one half-open session.
    /// AES-GCM's explicit nonce and its tag; nothing that a peer protects before the end of the handshake is smaller.
    private static let smallestProtected = 24

    /// What stands before the first record that is too short for what protects it. Nobody sends such a record but to
    /// do harm, and OpenSSL before 3.0.20 ends the session for it, which anybody who knows an address could bring about.
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

    private func isPlausible(_ datagram: UnsafeRawBufferPointer) -> Bool {
        var rest = datagram
        let header = DTLSDatagramKind.recordHeaderBytes
        while rest.count >= header {
            let count = header + (Int(rest[11]) << 8 | Int(rest[12]))
            guard count <= rest.count else { break }
            if rest[3] == 0, rest[4] == 0 {
                switch DTLSDatagramKind.ContentType(rawValue: rest[0]) {
                case .applicationData: return false
                case .handshake where context.isServer && count >= header + 12:
                    let body = UnsafeRawBufferPointer(rebasing: rest[header..<count])
                    let length = Int(body[1]) << 16 | Int(body[2]) << 8 | Int(body[3])
                    if body[0] != Self.clientHello, length > Self.largestClientMessage { return false }
                case .alert where count == header + 2 && rest[header] == 1 && rest[header + 1] != 0: return false
                default: break
                }
            }
            rest = UnsafeRawBufferPointer(rebasing: rest[count...])
        }
        return true
    }
}

extension DTLSSession {
    /// Between our last handshake flight that was answered and that answer; nil when that flight had to be sent again.
    package var handshakeRTT: TimeAmount? {
        timer.roundTrip
    }
}

/// Called by OpenSSL in the middle of a handshake step; `owner` is the listener's context.
private func selectContext(owner: UnsafeMutableRawPointer?, session: OpaquePointer?, name: UnsafePointer<CChar>?) {
    let context = Unmanaged<DTLSContext>.fromOpaque(owner!).takeUnretainedValue()
    guard let selected = context.selectContext?(name.map { String(cString: $0) }) else { return }
    precondition(selected.isServer, "a server's session needs a server's context")
    hop_session_use_context(session, selected.handle)
}
