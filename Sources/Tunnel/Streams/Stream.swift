import NIOCore

/// One stream: both halves, and its place in the scheduler. Owned by the connection's table.
final class Stream {
    let id: StreamID
    var send: SendStream
    var receive: ReceiveStream

    /// Whether the stream is in one of the scheduler's queues.
    var isQueued = false
    /// Whether the stream waits for MAX_DATA.
    var isParked = false
    /// The bytes that the stream may still send before the next bulk stream's turn.
    var quantum = 0
    /// Whether a `readable` event waits to be polled.
    var isReadableReported = false
    /// Whether a MAX_STREAM_DATA frame is queued.
    var owesMaxStreamData = false
    /// Whether the window beyond the minimum has been considered.
    var wasWidened = false
    /// The time at which the consumer last drained bytes. The stream with the earliest time is reset first.
    var drainedAt: NIODeadline
    /// The code of the STOP_SENDING to send, or `nil` if none was requested.
    var stopCode: ApplicationErrorCode?

    init(id: StreamID, sendLimit: UInt64, receiveWindow: UInt64, now: NIODeadline) {
        self.id = id
        send = SendStream(limit: sendLimit)
        receive = ReceiveStream(window: receiveWindow)
        drainedAt = now
    }

    var isControl: Bool { id == .control }
    /// The bytes that count against the tunnel's memory limits. Stream 0 has limits of its own.
    var footprint: UInt64 { isControl ? 0 : receive.footprint }
    var isTerminal: Bool { !isControl && send.isTerminal && receive.isTerminal }
}
