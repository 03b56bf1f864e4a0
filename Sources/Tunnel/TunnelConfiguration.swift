package import NIOCore

/// Windows, limits and times of one end of a tunnel. Sizes are bytes.
package struct TunnelConfiguration: Sendable {
    /// A new stream's window while memory is short, and of every stream before its first bytes were seen.
    package var minimumStreamWindow: UInt64 = 16 << 10
    /// A stream's first window.
    package var initialStreamWindow: UInt64 = 64 << 10
    package var maximumStreamWindow: UInt64 = 1 << 20
    /// MAX_DATA runs this far ahead of what has arrived; it doubles up to the maximum while it limits the peer.
    package var initialConnectionWindow: UInt64 = 1 << 20
    package var maximumConnectionWindow: UInt64 = 16 << 20
    /// Stream 0 before and after ``TunnelConnection/authenticated()``.
    package var halfOpenControlWindow: UInt64 = 16 << 10
    package var controlWindow: UInt64 = 128 << 10
    /// Undrained bytes of a session above which only windows whose consumer keeps up still grow, and new streams keep
    /// the minimum.
    package var undrainedSoftLimit: UInt64 = 4 << 20
    /// Undrained bytes above which the stream that stalled longest is reset.
    package var undrainedHardLimit: UInt64 = 32 << 20
    /// Streams the peer may open once authenticated; 0 for a peer that opens none.
    package var maxStreams: UInt64 = 4_096
    /// An end that needs no authentication of its peer starts with its full limits.
    package var startsAuthenticated = false
    package var idleTimeout: TimeAmount = .seconds(30)
    package var maxAckDelay: TimeAmount = .milliseconds(10)
    /// A `writable` event is owed once more than the high mark is unsent, and comes below the low mark.
    package var unsentHighMark = 128 << 10
    package var unsentLowMark = 64 << 10

    package init() {}
}

/// Figures of a tunnel, for metrics and for choosing among tunnels.
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
    /// Streams reset because the consumer let too much pile up.
    package var overloadedStreams: UInt64 = 0
    package var undrainedBytes: UInt64 = 0
    package var openStreams = 0

    package init() {}
}
