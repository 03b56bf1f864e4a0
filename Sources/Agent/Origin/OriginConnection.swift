import Glibc
import HopProtocol
import NIOCore
import Observability

/// One connection to an origin, on the event loop of the streams that it serves: the last handler of its channel, which
/// works on bytes. It serves one ``OriginConnectionDelegate`` at a time, and lies in its ``OriginPool`` in between.
///
/// Reading is on demand: a `read()` is outstanding while the delegate can accept bytes, and while the connection is
/// idle (so that the origin's close is seen).
final class OriginConnection: ChannelInboundHandler {
    typealias InboundIn = ByteBuffer
    typealias OutboundOut = ByteBuffer

    private enum State {
        case idle
        case busy
        /// Bytes are relayed both ways, after a 101.
        case raw
        case closed
    }

    private unowned let pool: OriginPool
    private var context: ChannelHandlerContext?
    private weak var delegate: (any OriginConnectionDelegate)?
    private var state = State.idle
    private var parser = OriginResponseParser()
    private var isReadOutstanding = false
    private var hasUnflushedWrites = false
    private var hasInputEnded = false
    /// Whether the connection has never been in the pool. The close of a fresh connection is not that of a stale pooled
    /// one.
    private(set) var isFresh = true
    private(set) var idleSince = NIODeadline.uptimeNanoseconds(0)

    init(pool: OriginPool) { self.pool = pool }

    // MARK: For the pool

    /// Whether the connection may serve a request.
    var isUsable: Bool {
        if case .idle = state { !hasInputEnded && context != nil } else { false }
    }

    /// The pool has inserted the connection.
    func becameIdle(now: NIODeadline) {
        idleSince = now
        isFresh = false
        read()
    }

    /// Closes the connection.
    ///
    /// - Parameter withReset: Whether to send a TCP reset. Used when the request is incomplete: it must not look
    ///   complete, and an origin that does not read would not see an ordinary end behind unread bytes.
    func close(withReset: Bool = false) {
        if case .closed = state { return }
        state = .closed
        delegate = nil
        guard let context else { return }
        if withReset, let socket = context.channel as? any SocketOptionProvider {
            socket.setSoLinger(linger(l_onoff: 1, l_linger: 0)).whenFailure { _ in }
        }
        context.close(promise: nil)
    }

    // MARK: For the delegate

    /// Assigns the connection to a request with this method.
    func beginExchange(with delegate: any OriginConnectionDelegate, method: String) {
        self.delegate = delegate
        state = .busy
        parser.begin(method: method)
        read()
    }

    /// Detaches the delegate, whose exchange is complete.
    ///
    /// - Returns: Whether the connection may serve another request; otherwise it has been closed.
    func release() -> Bool {
        delegate = nil
        guard case .busy = state, parser.isIdle, parser.isKeptAlive, !hasInputEnded else {
            close()
            return false
        }
        state = .idle
        return true
    }

    /// Whether any byte of the response has arrived.
    var hasResponseStarted: Bool { parser.hasResponseStarted }
    var isWritable: Bool { context?.channel.isWritable ?? false }

    /// Queues bytes until ``flushIfNeeded()``.
    func write(_ bytes: ByteBuffer) {
        hasUnflushedWrites = true
        context?.write(wrapOutboundOut(bytes), promise: nil)
    }

    /// Flushes what has been written since the last flush.
    ///
    /// - Returns: Whether there was anything to flush.
    func flushIfNeeded() -> Bool {
        guard hasUnflushedWrites else { return false }
        hasUnflushedWrites = false
        context?.flush()
        return true
    }

    /// Relays bytes both ways from now on, after a 101.
    ///
    /// - Returns: The bytes that have arrived behind the 101.
    func switchToRaw() -> ByteBuffer {
        state = .raw
        return parser.removeInput()
    }

    func closeOutput() { context?.close(mode: .output, promise: nil) }

    /// Reads once, unless a read is outstanding or the input has ended.
    func read() {
        guard !isReadOutstanding, let context, !hasInputEnded else { return }
        isReadOutstanding = true
        context.read()
    }

    // MARK: ChannelInboundHandler

    func handlerAdded(context: ChannelHandlerContext) { self.context = context }
    func handlerRemoved(context: ChannelHandlerContext) { self.context = nil }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        let bytes = unwrapInboundIn(data)
        switch state {
        case .busy:
            parser.feed(bytes)
            parse()
        case .raw: delegate?.originRaw(bytes)
        // An origin that sends bytes without a request is not trusted with the next one.
        case .idle: fail(OriginError(.violation, "bytes without a request"))
        case .closed: break
        }
    }

    private func parse() {
        do throws(OriginError) {
            while case .busy = state, let delegate, let event = try parser.next() {
                switch event {
                case .interim(let head): delegate.originInterimHead(head)
                case .head(let head): delegate.originHead(head)
                case .body(let bytes): delegate.originBody(bytes)
                case .end(let trailers): delegate.originEnd(trailers)
                }
            }
        } catch {
            fail(error)
        }
    }

    func channelReadComplete(context: ChannelHandlerContext) {
        isReadOutstanding = false
        switch state {
        case .busy, .raw: if delegate?.originReadComplete() ?? false { read() }
        case .idle: read()
        case .closed: break
        }
    }

    func channelWritabilityChanged(context: ChannelHandlerContext) {
        if context.channel.isWritable { delegate?.originWritable() }
    }

    func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
        if case ChannelEvent.inputClosed = event { inputEnded() } else { context.fireUserInboundEventTriggered(event) }
    }

    func channelInactive(context: ChannelHandlerContext) {
        inputEnded()
        fail(OriginError(.truncated, "the origin closed the connection"))
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) {
        fail(OriginError(.truncated, "the connection to the origin failed: \(SocketFailure(error))"))
    }

    private func inputEnded() {
        guard !hasInputEnded else { return }
        hasInputEnded = true
        switch state {
        case .busy:
            do throws(OriginError) {
                if case .end(let trailers) = try parser.finish() { delegate?.originEnd(trailers) }
                _ = delegate?.originReadComplete()
            } catch {
                fail(error)
            }
        case .raw: delegate?.originRawEnded()
        case .idle:
            pool.remove(self)
            close()
        case .closed: break
        }
    }

    /// Closes the connection and reports the error to the delegate, which passes on what it received before.
    private func fail(_ error: OriginError) {
        switch state {
        case .closed: return
        case .idle: pool.remove(self)
        case .busy, .raw: break
        }
        let delegate = self.delegate
        close()
        delegate?.originFailed(error)
    }
}
