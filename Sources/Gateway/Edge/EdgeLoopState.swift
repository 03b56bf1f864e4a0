import Glibc
import HopProtocol
import NIOCore
import Observability

/// What the edge keeps for one event loop: its connections, those that have something to flush at the end of this turn,
/// the cached Date, random numbers.
///
/// `@unchecked`: confined to ``loop`` but for `init`; every method is called there.
final class EdgeLoopState: @unchecked Sendable {
    /// How often deadlines are looked at; every timeout of the edge is late by up to this much.
    static let interval = TimeAmount.milliseconds(250)

    let loop: any EventLoop
    private var connections: [HTTP1Connection] = []
    private var unflushed: [HTTP1Connection] = []
    private var spare: [HTTP1Connection] = []
    private var isFlushScheduled = false
    private var randomPool = [UInt8](repeating: 0, count: 256)
    private var randomLeft = 0
    private var choice: UInt64 = .random(in: 1 ... .max)
    private var date = HTTPDate()
    private var counters = RequestCounters()
    private var sweep: RepeatedTask?

    init(loop: any EventLoop) {
        self.loop = loop
    }

    // MARK: Connections and their deadlines

    func start() {
        loop.preconditionInEventLoop()
        sweep = loop.scheduleRepeatedTask(initialDelay: Self.interval, delay: Self.interval) { _ in
            let now = NIODeadline.now()
            // A connection may leave while it is looked at: from the end, the one moved into a hole was seen.
            var index = self.connections.count - 1
            while index >= 0 {
                if index < self.connections.count { self.connections[index].tick(now) }
                index -= 1
            }
        }
    }

    func stop() {
        sweep?.cancel()
        sweep = nil
    }

    func add(_ connection: HTTP1Connection) {
        connection.indexInLoop = connections.count
        connections.append(connection)
    }

    func remove(_ connection: HTTP1Connection) {
        guard let index = connection.indexInLoop else { return }
        connection.indexInLoop = nil
        let last = connections.removeLast()
        if last !== connection {
            connections[index] = last
            last.indexInLoop = index
        }
    }

    /// Tells every connection that no further request is wanted.
    func drain() {
        for connection in Array(connections) { connection.drain() }
    }

    func closeAll() {
        for connection in Array(connections) { connection.closeNow() }
    }

    // MARK: Flushing once a turn

    /// Flushes `connection` when everything that is due in this turn of the loop has run.
    func flushLater(_ connection: HTTP1Connection) {
        unflushed.append(connection)
        guard !isFlushScheduled else { return }
        isFlushScheduled = true
        loop.assumeIsolated().execute { self.flushAll() }
    }

    private func flushAll() {
        isFlushScheduled = false
        swap(&unflushed, &spare)
        for connection in spare { connection.flushIfNeeded() }
        spare.removeAll(keepingCapacity: true)
    }

    // MARK: Small things

    /// The value of a Date field, made once a second.
    func dateValue(_ now: NIODeadline) -> String { date.value(now) }

    func count(_ status: Int, method: String, isHTTP10: Bool, in registry: MetricsRegistry) {
        counters.count(status, method: method, isHTTP10: isHTTP10, in: registry)
    }

    /// 128 bits from the kernel, 16 ids a system call.
    func makeRequestID() -> RequestID {
        if randomLeft < 16 {
            randomPool.withUnsafeMutableBytes { pool in
                guard getentropy(pool.baseAddress, pool.count) == 0 else { preconditionFailure("no random numbers") }
            }
            randomLeft = randomPool.count
        }
        randomLeft -= 16
        return randomPool.withUnsafeBytes {
            RequestID(rawValue: $0.loadUnaligned(fromByteOffset: randomLeft, as: UInt128.self))
        }
    }

    /// For choices that nobody gains by predicting (xorshift).
    func nextChoice() -> UInt64 {
        choice ^= choice << 13
        choice ^= choice >> 7
        choice ^= choice << 17
        return choice
    }
}
