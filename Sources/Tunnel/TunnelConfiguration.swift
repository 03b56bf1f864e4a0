package import NIOCore

/// Flow-control windows, limits and times of one end of a tunnel. Sizes are bytes.
package struct TunnelConfiguration: Sendable {
    /// The receive window of a new stream while memory is short, and of every stream before its first bytes have
    /// arrived.
    package var minimumStreamWindow: UInt64 = 16 << 10
    /// The receive window of a stream after its first bytes have arrived.
    package var initialStreamWindow: UInt64 = 64 << 10
    /// The size up to which a stream's receive window grows.
    package var maximumStreamWindow: UInt64 = 1 << 20
    /// The distance by which MAX_DATA runs ahead of the bytes received. It doubles, up to ``maximumConnectionWindow``,
    /// while it limits the peer.
    package var initialConnectionWindow: UInt64 = 1 << 20
    /// The size up to which the connection's receive window grows.
    package var maximumConnectionWindow: UInt64 = 16 << 20
    /// The receive window of stream 0 before ``TunnelConnection/authenticated()``. ``controlWindow`` applies
    /// afterwards.
    package var halfOpenControlWindow: UInt64 = 16 << 10
    /// The receive window of stream 0 after ``TunnelConnection/authenticated()``.
    package var controlWindow: UInt64 = 128 << 10
    /// The undrained bytes of a tunnel above which only windows of streams whose consumer keeps up still grow, and new
    /// streams keep the minimum window.
    package var undrainedSoftLimit: UInt64 = 4 << 20
    /// The undrained bytes of a tunnel above which the stream that has stalled longest is reset.
    package var undrainedHardLimit: UInt64 = 32 << 20
    /// The number of streams that the peer may have open once it is authenticated; 0 for a peer that opens none.
    package var maxStreams: UInt64 = 4_096
    /// Whether this end starts with its full limits because it does not wait for an authentication of its peer.
    package var startsAuthenticated = false
    /// The time without a received packet after which the tunnel ends (RFC 9000 §10.1).
    package var idleTimeout: TimeAmount = .seconds(30)
    /// The longest time for which an acknowledgement is held back (RFC 9000 §18.2).
    package var maxAckDelay: TimeAmount = .milliseconds(10)
    /// The unsent bytes of a stream above which it owes a `writable` event. The event follows when they fall below
    /// ``unsentLowMark``.
    package var unsentHighMark = 128 << 10
    /// The unsent bytes of a stream below which an owed `writable` event is reported.
    package var unsentLowMark = 64 << 10

    package init() {}
}

/// Statistics of a tunnel, for metrics and for choosing among tunnels. Sizes are bytes.
package struct TunnelStatistics: Sendable {
    package var rtt: TimeAmount = .nanoseconds(0)
    package var minimumRTT: TimeAmount?
    package var congestionWindow = 0
    package var bytesInFlight = 0
    package var packetsSent: UInt64 = 0
    package var packetsReceived: UInt64 = 0
    package var packetsLost: UInt64 = 0
    package var duplicatePackets: UInt64 = 0
    package var streamBytesSent: UInt64 = 0
    package var streamBytesReceived: UInt64 = 0
    package var retransmittedBytes: UInt64 = 0
    package var probeTimeouts: UInt64 = 0
    /// The number of streams that were reset because their consumer let too many bytes pile up.
    package var overloadedStreams: UInt64 = 0
    package var undrainedBytes: UInt64 = 0
    package var openStreams = 0

    package init() {}
}
