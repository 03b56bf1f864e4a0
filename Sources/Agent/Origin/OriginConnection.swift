import Glibc
import HopProtocol
import NIOCore

/// One connection to an origin, on the loop of the streams it serves: the last handler of its channel, which deals in
/// bytes. It works for one ``OriginExchange`` at a time and lies in its ``OriginPool`` in between.
///
/// Reading is on demand: a `read()` is outstanding while the exchange can take bytes, and while the connection lies idle
/// (so that the origin's close is seen).
final class OriginConnection: ChannelInboundHandler {
    typealias InboundIn = ByteBuffer
    typealias OutboundOut = ByteBuffer

    private enum State {
        case idle
        case busy
        /// After a 101: bytes both ways.
        case raw
        case closed
    }

    private unowned let pool: OriginPool
    private var context: ChannelHandlerContext?
    private weak var exchange: OriginExchange?
    private var state = State.idle
    private var parser = OriginResponseParser()
    private var isReadOutstanding = false
    private var hasInputEnded = false
    /// It has not lain in the pool: its close is not that of a stale pooled connection.
    private(set) var isFresh = true
    private(set) var idleSince = NIODeadline.uptimeNanoseconds(0)

    init(pool: OriginPool) { self.pool = pool }

    // MARK: For the pool

    var isUsable: Bool {
        if case .idle = state { !hasInputEnded && context != nil } else { false }
    }

    func lieIdle(now: NIODeadline) {
        idleSince = now
        isFresh = false
        read()
    }

    /// Ends the connection. With `isCut` by a reset: what was sent is incomplete and must not look whole, and an origin
    /// that does not read would not see an ordinary end behind what it has not read.
    func close(isCut: Bool = false) {
        if case .closed = state { return }
        state = .closed
        exchange = nil
        guard let context else { return }
        if isCut, let socket = context.channel as? any SocketOptionProvider {
            socket.setSoLinger(linger(l_onoff: 1, l_linger: 0)).whenFailure { _ in }
        }
        context.close(promise: nil)
    }

    // MARK: For the exchange

    /// Takes the connection for a request of this method.
    func begin(_ exchange: OriginExchange, method: String) {
        self.exchange = exchange
        state = .busy
        parser.begin(method: method)
        read()
    }

    /// The exchange is over and needs the connection no more. Answers whether it may serve another.
    func release() -> Bool {
        exchange = nil
        guard case .busy = state, parser.isIdle, parser.isKeptAlive, !hasInputEnded else {
            close()
            return false
        }
        state = .idle
        return true
    }

    var hasAnswerStarted: Bool { parser.hasAnswerStarted }
    var isWritable: Bool { context?.channel.isWritable ?? false }

    func write(_ bytes: ByteBuffer) { context?.write(wrapOutboundOut(bytes), promise: nil) }
    func flush() { context?.flush() }

    /// Bytes both ways from now on; returns those that arrived behind the 101.
    func becomeRaw() -> ByteBuffer {
        state = .raw
        return parser.takeRest()
    }

    func closeOutput() { context?.close(mode: .output, promise: nil) }

    /// The exchange can take more.
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
        case .raw: exchange?.originRaw(bytes)
        // An origin that talks unasked is not to be trusted with the next request.
        case .idle: fail(OriginError(.violation, "bytes that nobody asked for"))
        case .closed: break
        }
    }

    private func parse() {
        do throws(OriginError) {
            while case .busy = state, let exchange, let event = try parser.next() {
                switch event {
                case .interim(let head): exchange.originInterim(head)
                case .head(let head): exchange.originHead(head)
                case .body(let bytes): exchange.originBody(bytes)
                case .end(let trailers): exchange.originEnd(trailers)
                }
            }
        } catch {
            fail(error)
        }
    }

    func channelReadComplete(context: ChannelHandlerContext) {
        isReadOutstanding = false
        switch state {
        case .busy, .raw: if exchange?.originReadComplete() ?? false { read() }
        case .idle: read()
        case .closed: break
        }
    }

    func channelWritabilityChanged(context: ChannelHandlerContext) {
        if context.channel.isWritable { exchange?.originWritable() }
    }

    func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
        if case ChannelEvent.inputClosed = event { inputEnded() } else { context.fireUserInboundEventTriggered(event) }
    }

    func channelInactive(context: ChannelHandlerContext) {
        inputEnded()
        fail(OriginError(.truncated, "the origin closed the connection"))
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) {
        fail(OriginError(.truncated, "the connection to the origin failed: \(error)"))
    }

    private func inputEnded() {
        guard !hasInputEnded else { return }
        hasInputEnded = true
        switch state {
        case .busy:
            do throws(OriginError) {
                if case .end(let trailers) = try parser.finish() { exchange?.originEnd(trailers) }
                _ = exchange?.originReadComplete()
            } catch {
                fail(error)
            }
        case .raw: exchange?.originRawEnded()
        case .idle:
            pool.remove(self)
            close()
        case .closed: break
        }
    }

    /// Whatever was read before is passed on first.
    private func fail(_ error: OriginError) {
        switch state {
        case .closed: return
        case .idle: pool.remove(self)
        case .busy, .raw: break
        }
        let exchange = self.exchange
        close()
        exchange?.originFailed(error)
    }
}
