import Synchronization

/// A count that one loop raises and any thread reads: no locked instruction, because there is one writer.
package struct LoopCounter: ~Copyable, Sendable {
    private let value = Atomic<Int>(0)

    @inline(__always)
    func add(_ count: Int) {
        value.store(value.load(ordering: .relaxed) &+ count, ordering: .relaxed)
    }

    package var current: Int { value.load(ordering: .relaxed) }
}

/// What one socket's loop did since it was bound. Written by that loop alone, read by whoever prints metrics.
package final class TransportCounters: Sendable {
    package init() {}

    // Sent.
    package let datagramsOut = LoopCounter()
    /// `sendmsg` calls that succeeded.
    package let burstsOut = LoopCounter()
    /// Bursts that the kernel would not cut (EIO, EINVAL, EMSGSIZE) and that left one by one.
    package let burstsRefused = LoopCounter()
    /// Bursts that found the socket's buffer full.
    package let burstsBlocked = LoopCounter()
    package let datagramsRefused = LoopCounter()
    package let datagramsTooLarge = LoopCounter()
    package let datagramsFailed = LoopCounter()

    // Received.
    package let datagramsIn = LoopCounter()
    package let bytesIn = LoopCounter()
    /// Reads, each of which may hold many coalesced datagrams.
    package let readsIn = LoopCounter()
    /// NIO closed the channel after an error and it was opened again.
    package let channelsReopened = LoopCounter()

    // Dropped, by reason.
    /// From port 0, which cannot be answered.
    package let droppedPortZero = LoopCounter()
    /// Empty, or not a DTLS record.
    package let droppedInvalid = LoopCounter()
    /// Neither a ClientHello nor an application record, and no session has this address.
    package let droppedUnknown = LoopCounter()
    /// A ClientHello that the listener refused.
    package let droppedHello = LoopCounter()
    /// A new handshake while as many as may be are half open.
    package let droppedHalfOpenTotal = LoopCounter()
    /// A new handshake while its address has as many half open as it may have.
    package let droppedHalfOpenAddress = LoopCounter()
    /// Sessions that proved themselves and were too many.
    package let sessionsRefused = LoopCounter()

    // Handshakes and sessions.
    package let cookiesSent = LoopCounter()
    package let alertsSent = LoopCounter()
    package let handshakesStarted = LoopCounter()
    package let handshakesFinished = LoopCounter()
    package let handshakesFailed = LoopCounter()
    package let sessionsAuthenticated = LoopCounter()
    package let sessionsClosed = LoopCounter()
    /// Now, not since the start.
    package let halfOpen = LoopCounter()
    package let sessions = LoopCounter()
}
