/// What a driver learns from ``TunnelConnection/pollEvent()``.
package enum TunnelEvent: Equatable, Sendable {
    /// The peer's PARAMETERS arrived: streams can be opened.
    case established
    /// The peer opened a stream. Never the control stream, which exists from the start.
    case streamOpened(StreamID)
    /// In-order bytes or the end are there: ``TunnelConnection/read(_:)`` until nil, then ask ``TunnelConnection/isFinished(_:)``.
    case readable(StreamID)
    /// Unsent bytes fell below the low mark after having been above the high mark.
    case writable(StreamID)
    /// The peer abandoned its sending side, or this side shed the stream (INTERNAL); earlier bytes may be missing.
    case reset(StreamID, code: ApplicationErrorCode)
    /// The peer reads no more. RESET_STREAM with the same code is queued already; write no more.
    case stopSending(StreamID, code: ApplicationErrorCode)
    /// Both directions are over and the stream is forgotten.
    case streamClosed(StreamID)
    /// The last event: the tunnel is over.
    case closed(TunnelCloseReason)
}
