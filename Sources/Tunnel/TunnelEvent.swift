/// An event that ``TunnelConnection/pollEvent()`` returns to the driver.
package enum TunnelEvent: Equatable, Sendable {
    /// The peer's PARAMETERS arrived: streams can be opened.
    case established
    /// The peer opened a stream. Not reported for the control stream, which exists from the start.
    case streamOpened(StreamID)
    /// In-order bytes or the end of the stream can be read: call ``TunnelConnection/read(_:)`` until it returns `nil`,
    /// then ``TunnelConnection/isFinished(_:)``.
    case readable(StreamID)
    /// The unsent bytes of a stream fell below the low mark after having been above the high mark.
    case writable(StreamID)
    /// The peer abandoned its sending side, or this side reset the stream because it holds too much (INTERNAL). Earlier
    /// bytes may be missing.
    case reset(StreamID, code: ApplicationErrorCode)
    /// The peer reads no more. RESET_STREAM with the same code is queued already, and further writes have no effect.
    case stopSending(StreamID, code: ApplicationErrorCode)
    /// Both directions are complete and the stream is forgotten.
    case streamClosed(StreamID)
    /// The tunnel is closed. This is the last event.
    case closed(TunnelCloseReason)
}
