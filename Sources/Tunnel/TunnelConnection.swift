import DequeModule
package import NIOCore

/// One tunnel: RFC 9000 streams and RFC 9002 loss recovery inside the records of a DTLS session.
///
/// Think of it as a QUIC connection without its handshake and packet protection, which DTLS provides. It is sans-IO:
/// packets and `now` go in; packets, deadlines and events come out. It reads no clock and owns no socket. Times are
/// `NIODeadline`, sizes are bytes. It is confined to one event loop; in this project `TunnelSession` owns and drives
/// it.
///
/// A driver calls five verbs:
/// - ``handle(packet:now:)`` with the plaintext of every DTLS record,
/// - ``handleTimeout(now:)`` when the deadline of ``pollTimeout()`` has passed,
/// - then ``pollEvent()`` until it returns `nil`,
/// - then ``pollTransmit(now:into:)`` until it returns `nil`,
/// - then ``pollTimeout()`` for the next deadline.
///
/// The last three also follow any call that writes, resets, consumes or closes.
///
/// No verb throws. A violation by the peer, the idle timeout and a CONNECTION_CLOSE of the peer all arrive as
/// ``TunnelEvent/closed(_:)``, the last event. Phases of closing are those of RFC 9000 §10.2.
package final class TunnelConnection {
    package let role: TunnelRole
    let configuration: TunnelConfiguration
    /// The plaintext size of a full packet in bytes.
    package private(set) var maxPacketSize: Int

    // MARK: Streams
    var streams: [UInt64: Stream] = [:]
    let control: Stream
    var localStreamsOpened: UInt64 = 0
    var peerStreamsOpened: UInt64 = 0
    /// The number of streams that the peer lets this end open.
    var peerStreamLimit: UInt64 = 0
    /// The number of streams that the peer may open, as announced to it.
    var streamLimit: UInt64
    var closedSinceStreamLimit: UInt64 = 0
    var isAuthenticated: Bool

    // MARK: Connection flow control
    var peerDataLimit: UInt64 = 0
    var dataSent: UInt64 = 0
    var dataReceived: UInt64 = 0
    var dataLimit: UInt64
    var connectionWindow: UInt64
    var connectionWindowRaisedAt = NIODeadline.uptimeNanoseconds(0)
    var undrained: UInt64 = 0
    /// The streams of which nothing had been sent when the tunnel ended: their requests provably did not start.
    var neverSent: Set<UInt64> = []

    // MARK: Queued frames
    enum ControlFrame {
        case resetStream(StreamID)
        case stopSending(StreamID)
        case maxData
        case maxStreamData(StreamID)
        case maxStreams
        case dataBlocked(UInt64)
        case streamDataBlocked(StreamID, UInt64)
        case streamsBlocked(UInt64)
    }
    var controlFrames: Deque<ControlFrame> = []
    var smallStreams: Deque<Stream> = []
    var bulkStreams: Deque<Stream> = []
    var streamsAwaitingData: [Stream] = []
    var owesMaxData = false
    var owesMaxStreams = false
    var dataBlockedReported: UInt64?
    var streamsBlockedReported: UInt64?
    var owesPing = false
    let parameters: TunnelParameters
    var owesParameters = true
    var areParametersAcknowledged = false
    var peerParameters: TunnelParameters?
    var peerParametersBytes: [UInt8] = []

    // MARK: Recovery
    var sent = SentPackets()
    var acks = AckTracker()
    var rtt: RTTEstimator
    var congestion: any CongestionController
    var pacer: Pacer
    var bytesInFlight = 0
    var elicitingInFlight = 0
    var largestAcknowledged: UInt64?
    var lossTime: NIODeadline?
    var probeCount = 0
    var probesToSend = 0
    var lastElicitingSentAt: NIODeadline
    /// Whether sending is limited by a lack of data alone, not by congestion or pacing (RFC 9002 §7.8).
    var isApplicationLimited = false

    // MARK: Lifecycle
    enum Phase {
        case open
        /// This end has queued CONNECTION_CLOSE. It is repeated at a falling rate until the deadline.
        case closing(code: ApplicationErrorCode, reason: String, until: NIODeadline)
        /// The peer has sent CONNECTION_CLOSE.
        case draining(until: NIODeadline)
        case closed
    }
    var phase = Phase.open
    var owesClose = false
    var packetsSinceClose = 0
    var events: Deque<TunnelEvent> = []
    /// The latest `now` that was passed in.
    var now: NIODeadline
    package internal(set) var lastReceived: NIODeadline
    /// The time of the first ack-eliciting packet sent since a packet was received. It restarts the idle timer once
    /// (RFC 9000 §10.1).
    var elicitingSentSinceReceipt: NIODeadline?
    /// The time at which an ACK last acknowledged something new, or a packet was sent when none had been in flight.
    package internal(set) var lastProgress: NIODeadline
    /// The time without traffic after which a PING is sent, or `nil` to send none.
    package var keepAliveInterval: TimeAmount?
    var counters = TunnelStatistics()

    /// Creates the connection once the DTLS handshake is complete.
    ///
    /// - Parameters:
    ///   - role: The end of the DTLS session.
    ///   - configuration: Windows, limits and times.
    ///   - maxPacketSize: The plaintext bytes of one datagram; at least 512.
    ///   - handshakeRTT: The round trip of the handshake's last flight, or `nil` if that flight was retransmitted.
    ///   - now: The current time.
    package init(
        role: TunnelRole,
        configuration: TunnelConfiguration,
        maxPacketSize: Int,
        handshakeRTT: TimeAmount?,
        now: NIODeadline
    ) {
        precondition(maxPacketSize >= 512, "a packet must hold a parameters frame and some data")
        self.role = role
        self.configuration = configuration
        self.maxPacketSize = maxPacketSize
        self.now = now
        isAuthenticated = configuration.startsAuthenticated
        streamLimit = isAuthenticated ? configuration.maxStreams : 0
        dataLimit = configuration.initialConnectionWindow
        connectionWindow = configuration.initialConnectionWindow
        control = Stream(
            id: .control,
            sendLimit: configuration.halfOpenControlWindow,
            receiveWindow: configuration.halfOpenControlWindow,
            now: now
        )
        rtt = RTTEstimator(handshake: handshakeRTT)
        congestion = NewReno(maxPacketSize: maxPacketSize)
        pacer = Pacer(maxPacketSize: maxPacketSize, now: now)
        lastElicitingSentAt = now
        lastReceived = now
        lastProgress = now
        var parameters = TunnelParameters()
        parameters.idleTimeout = configuration.idleTimeout
        parameters.maxAckDelay = configuration.maxAckDelay
        parameters.initialMaxData = configuration.initialConnectionWindow
        parameters.initialMaxStreamData = configuration.minimumStreamWindow
        parameters.initialMaxStreams = streamLimit
        self.parameters = parameters
        streams[0] = control
        if isAuthenticated { raiseControlWindow() }
    }

    // MARK: Verbs

    /// Returns the next event, or `nil` if there is none. Streams may be read until ``TunnelEvent/closed(_:)`` has been
    /// returned.
    package func pollEvent() -> TunnelEvent? {
        let event = events.popFirst()
        // Data that arrived before the peer's CONNECTION_CLOSE could be read until here.
        if case .closed = event { forgetEverything() }
        return event
    }

    /// Whether nothing is left to do, so that the object can be dropped.
    package var isClosed: Bool {
        if case .closed = phase { return true }
        return false
    }

    /// Whether neither side has closed the tunnel.
    package var isOpen: Bool {
        if case .open = phase { return true }
        return false
    }

    /// Whether the peer's PARAMETERS have arrived.
    package var isEstablished: Bool { peerParameters != nil }

    /// Raises the limits of a half-open tunnel: the peer has authenticated itself, so stream 0 gets its full window and
    /// the peer its streams. Idempotent.
    package func authenticated() {
        guard !isAuthenticated else { return }
        isAuthenticated = true
        raiseControlWindow()
        if configuration.maxStreams > streamLimit {
            streamLimit = configuration.maxStreams
            queueMaxStreams()
        }
    }

    private func raiseControlWindow() {
        if control.receive.widen(to: configuration.controlWindow) { queueMaxStreamData(control) }
    }

    /// Sends a PING. Its acknowledgement moves ``lastProgress`` and so proves that the peer is alive.
    package func ping(now: NIODeadline) {
        guard isOpen else { return }
        self.now = now
        owesPing = true
    }

    /// Closes the tunnel with CONNECTION_CLOSE. The `closed` event follows.
    ///
    /// - Parameters:
    ///   - code: A code of the table in `docs/protocol.md`.
    ///   - reason: A sentence for the peer's log; at most 256 bytes are sent.
    ///   - now: The current time.
    package func close(code: ApplicationErrorCode, reason: String, now: NIODeadline) {
        guard isOpen else { return }
        self.now = now
        close(code: code, reason: reason, as: .local(code: code, reason: reason))
    }

    func close(code: ApplicationErrorCode, reason: String, as why: TunnelCloseReason) {
        let until = now + closingTime
        phase = .closing(code: code, reason: reason, until: until)
        owesClose = true
        forgetEverything()
        events.append(.closed(why))
    }

    /// The time for which the closing and draining phases last: 3 PTO (RFC 9000 §10.2), bounded because the peer's
    /// acknowledgement delay is part of it.
    var closingTime: TimeAmount { min(.nanoseconds(3 * probeTimeout.nanoseconds), .seconds(3)) }

    func forgetEverything() {
        for stream in streams.values where stream.send.sent == 0 { neverSent.insert(stream.id.rawValue) }
        streams.removeAll()
        forgetSending()
        events.removeAll()
        undrained = 0
    }

    func forgetSending() {
        smallStreams.removeAll()
        bulkStreams.removeAll()
        streamsAwaitingData.removeAll()
        controlFrames.removeAll()
    }

    /// The counters and current figures of the tunnel.
    package var statistics: TunnelStatistics {
        var result = counters
        result.rtt = rtt.smoothed
        result.minimumRTT = rtt.minimum
        result.congestionWindow = congestion.window
        result.bytesInFlight = bytesInFlight
        result.undrainedBytes = undrained
        result.openStreams = max(0, streams.count - 1)
        return result
    }

    /// Returns whether no acknowledgement has arrived for max(3 PTO, 1 s) although something is in flight.
    package func isSilent(now: NIODeadline) -> Bool {
        guard elicitingInFlight > 0 else { return false }
        let patience = max(TimeAmount.nanoseconds(3 * probeTimeout.nanoseconds), .seconds(1))
        return now - lastProgress >= patience
    }

    /// The probe timeout without back-off (RFC 9002 §6.2.1).
    package var probeTimeout: TimeAmount {
        rtt.probeTimeout(maxAckDelay: peerParameters?.maxAckDelay ?? configuration.maxAckDelay)
    }
}
