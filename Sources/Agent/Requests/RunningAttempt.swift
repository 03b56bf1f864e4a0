import HopProtocol
import NIOCore

/// A running attempt of a request, as the ledger holds it: a reference to its exchange, which lives on one event loop.
struct RunningAttempt: Sendable {
    private let exchange: NIOLoopBound<OriginExchange>
    private let loop: any EventLoop

    /// Creates a reference to `exchange`. Must be called on the exchange's event loop.
    init(_ exchange: OriginExchange, on loop: any EventLoop) {
        self.exchange = NIOLoopBound(exchange, eventLoop: loop)
        self.loop = loop
    }

    /// Aborts the attempt, because an attempt with a higher number has arrived. May be called on any thread.
    func abortAsStale() {
        if loop.inEventLoop {
            exchange.value.abort(.stale)
        } else {
            let bound = exchange
            loop.execute { bound.value.abort(.stale) }
        }
    }
}
