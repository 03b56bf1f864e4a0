import DequeModule
package import NIOCore

/// One tunnel: RFC 9000 streams and RFC 9002 recovery inside the records of a DTLS session. Sans-IO: packets and `now`
/// go in; packets, deadlines and events come out. It belongs to one event loop.
///
/// A driver calls five verbs:
/// - ``handle(packet:now:)`` with every decrypted record,
/// - ``handleTimeout(now:)`` when ``pollTimeout()`` has passed,
/// - then ``pollEvent()`` until nil,
/// - then ``pollTransmit(now:into:)`` until nil,
/// - then ``pollTimeout()`` for the next deadline.
/// The last three also after any call that writes, resets, consumes or closes.
package final class TunnelConnection {
    package let role: TunnelRole
    let configuration: TunnelConfiguration
    /// Plaintext bytes of a full packet.
    package private(set) var maxPacketSize: Int

    // MARK: Streams
    var streams: [UInt64: Stream] = [:]
    let control: Stream
    var localStreamsOpened: UInt64 = 0
    var peerStreamsOpened: UInt64 = 0
    /// How many streams the peer lets us open.
    var peerStreamLimit: UInt64 = 0
    /// How many streams the peer may open, as reported.
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
    /// Streams of which nothing was sent when the tunnel ended: their requests provably did not start.
    var neverSent: Set<UInt64> = []

    // MARK: Frames that wait
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
    /// Nothing but the application's silence holds sending back.
    var isApplicationLimited = false

    // MARK: Life
    enum Phase {
        case open
        /// CONNECTION_CLOSE was queued by us; it is repeated at a falling rate until the deadline.
        case closing(code: ApplicationErrorCode, reason: String, until: NIODeadline)
        /// The peer closed.
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
    /// The first ack-eliciting packet sent since something was received; it restarts the idle timer once.
    var elicitingSentSinceReceipt: NIODeadline?
    /// When an acknowledgement last said something new, or something was first sent after silence.
    package internal(set) var lastProgress: NIODeadline
    /// A PING leaves when nothing was sent or received for this long. Nil: never.
    package var keepAliveInterval: TimeAmount?
    var counters = TunnelStatistics()

    /// `maxPacketSize`: plaintext bytes of one datagram. `handshakeRTT`: the round trip of the DTLS handshake's last
    /// flight, nil if it was retransmitted.
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

    package func pollEvent() -> TunnelEvent? {
        let event = events.popFirst()
        // What the peer said before it closed could be read until here.
        if case .closed = event { forgetEverything() }
        return event
    }

    /// True when nothing is left to do and the object can be dropped.
    package var isClosed: Bool {
        if case .closed = phase { return true }
        return false
    }

    package var isOpen: Bool {
        if case .open = phase { return true }
        return false
    }

    package var isEstablished: Bool { peerParameters != nil }

    /// The peer proved who it is: stream 0 gets its full window, and the peer its streams.
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

    /// Asks the peer for a sign of life; the acknowledgement moves ``lastProgress``.
    package func ping(now: NIODeadline) {
        guard isOpen else { return }
        self.now = now
        owesPing = true
    }

    /// Ends the tunnel with CONNECTION_CLOSE. `code` is one of the table in `docs/protocol.md`.
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

    /// 3 PTO (RFC 9000 §10.2); the peer's ack delay must not stretch it without bound.
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

    /// No acknowledgement came for max(3 PTO, 1 s) although something is in flight.
    package func isSilent(now: NIODeadline) -> Bool {
        guard elicitingInFlight > 0 else { return false }
        let patience = max(TimeAmount.nanoseconds(3 * probeTimeout.nanoseconds), .seconds(1))
        return now - lastProgress >= patience
    }

    /// The unscaled probe timeout, RFC 9002 §6.2.1.
    package var probeTimeout: TimeAmount {
        rtt.probeTimeout(maxAckDelay: peerParameters?.maxAckDelay ?? configuration.maxAckDelay)
    }
}
