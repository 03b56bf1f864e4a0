import Synchronization

/// A counter that one loop increments and any thread reads. There is one writer, so no locked instruction is needed.
package struct LoopCounter: ~Copyable, Sendable {
    private let value = Atomic<Int>(0)

    @inline(__always)
    func add(_ count: Int) {
        value.store(value.load(ordering: .relaxed) &+ count, ordering: .relaxed)
    }

    package var current: Int { value.load(ordering: .relaxed) }
}

/// The counters of one socket's loop since the socket was bound. Incremented by that loop alone, read by any thread.
package final class TransportCounters: Sendable {
    package init() {}

    // Sent.
    package let datagramsOut = LoopCounter()
    /// The number of successful `sendmsg` calls.
    package let burstsOut = LoopCounter()
    /// The number of bursts that the kernel refused to cut (EIO, EINVAL, EMSGSIZE) and that were sent one datagram at a
    /// time.
    package let burstsRefused = LoopCounter()
    /// The number of bursts that found the socket's buffer full.
    package let burstsBlocked = LoopCounter()
    package let datagramsRefused = LoopCounter()
    package let datagramsTooLarge = LoopCounter()
    package let datagramsFailed = LoopCounter()

    // Received.
    package let datagramsIn = LoopCounter()
    package let bytesIn = LoopCounter()
    /// The number of reads, each of which may contain many coalesced datagrams.
    package let readsIn = LoopCounter()
    /// The number of times that NIO closed the channel after an error and it was opened again.
    package let channelsReopened = LoopCounter()

    // Dropped, by reason.
    /// Datagrams from port 0, which cannot be answered.
    package let droppedPortZero = LoopCounter()
    /// Datagrams that are empty or no DTLS record.
    package let droppedInvalid = LoopCounter()
    /// Datagrams that are neither a ClientHello nor an application record, at an address without a session.
    package let droppedUnknown = LoopCounter()
    /// ClientHellos that the listener dropped.
    package let droppedHello = LoopCounter()
    /// Half-open sessions that were ended because another one needed their place.
    package let halfOpenEvicted = LoopCounter()
    /// New handshakes dropped because the total of half-open sessions was at its limit, and none of them could be
    /// ended.
    package let droppedHalfOpenTotal = LoopCounter()
    /// New handshakes dropped because the half-open sessions of the address were at their limit.
    package let droppedHalfOpenAddress = LoopCounter()
    /// Sessions that authenticated themselves and exceeded the limits.
    package let sessionsRefused = LoopCounter()

    // Handshakes and sessions.
    package let cookiesSent = LoopCounter()
    package let alertsSent = LoopCounter()
    package let handshakesStarted = LoopCounter()
    package let handshakesFinished = LoopCounter()
    package let handshakesFailed = LoopCounter()
    package let sessionsAuthenticated = LoopCounter()
    package let sessionsClosed = LoopCounter()
    /// The current number of half-open sessions; a gauge like `sessions`.
    package let halfOpen = LoopCounter()
    package let sessions = LoopCounter()
}
