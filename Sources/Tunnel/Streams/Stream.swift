import NIOCore

/// One stream: both halves, and its place in the scheduler. Owned by the connection's table.
final class Stream {
    let id: StreamID
    var send: SendStream
    var receive: ReceiveStream

    /// It stands in one of the scheduler's queues.
    var isQueued = false
    /// It waits for MAX_DATA.
    var isParked = false
    /// Bytes it may still send before the next bulk stream's turn.
    var quantum = 0
    /// A `readable` event is waiting to be polled.
    var isReadableReported = false
    var owesMaxStreamData = false
    /// The first window beyond the minimum was considered.
    var wasWidened = false
    /// When the consumer last drained something; decides who is shed first.
    var drainedAt: NIODeadline
    /// Code of a STOP_SENDING that has to be sent.
    var stopCode: ApplicationErrorCode?

    init(id: StreamID, sendLimit: UInt64, receiveWindow: UInt64, now: NIODeadline) {
        self.id = id
        send = SendStream(limit: sendLimit)
        receive = ReceiveStream(window: receiveWindow)
        drainedAt = now
    }

    var isControl: Bool { id == .control }
    /// What counts in the session's budget; stream 0 has bounds of its own.
    var footprint: UInt64 { isControl ? 0 : receive.footprint }
    var isTerminal: Bool { !isControl && send.isTerminal && receive.isTerminal }
}
