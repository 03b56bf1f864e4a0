import NIOCore
import Tunnel

/// A message between a stream's user loop and its session's loop. The messages of one stream keep their order.
enum LoopMessage: Sendable {
    // From the user's loop to the session's.
    case open(TunnelStream)
    /// Bytes to send. With `wantsReport` the session answers with `sent` as soon as few bytes are unsent.
    case write(TunnelStream, ByteBuffer, wantsReport: Bool)
    case wantsReport(TunnelStream)
    case finish(TunnelStream)
    case resetSending(TunnelStream, ApplicationErrorCode)
    case stopSending(TunnelStream, ApplicationErrorCode)
    case consumed(TunnelStream, Int)

    // From the session's loop to the user's.
    case read(TunnelStream, ByteBuffer)
    case finished(TunnelStream)
    case failed(TunnelStream, StreamFailure)
    case stopped(TunnelStream, code: ApplicationErrorCode)
    /// The number of bytes of the stream that have been sent or discarded since it was opened.
    case sent(TunnelStream, total: Int)
    case closed(TunnelStream)

    /// Delivers the message on the receiving loop.
    func deliver() {
        switch self {
        case .open(let stream): stream.session.open(stream)
        case .write(let stream, let bytes, let wantsReport):
            stream.session.write(stream, bytes)
            if wantsReport { stream.session.report(stream) }
        case .wantsReport(let stream): stream.session.report(stream)
        case .finish(let stream): stream.session.finish(stream)
        case .resetSending(let stream, let code): stream.session.reset(stream, code)
        case .stopSending(let stream, let code): stream.session.stopSending(stream, code)
        case .consumed(let stream, let count): stream.session.consumed(stream, count)
        case .read(let stream, let bytes): stream.userRead(bytes)
        case .finished(let stream): stream.userFinished()
        case .failed(let stream, let failure): stream.userFailed(failure)
        case .stopped(let stream, let code): stream.userStopped(code: code)
        case .sent(let stream, let total): stream.userSent(total: total)
        case .closed(let stream): stream.userClosed()
        }
    }
}
