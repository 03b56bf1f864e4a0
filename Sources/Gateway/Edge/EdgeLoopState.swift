import NIOCore

/// The public connections of one event loop: their deadlines, and those that have output to flush at the end of this
/// turn of the loop.
///
/// `@unchecked`: confined to its loop but for `init`.
final class EdgeLoopState: @unchecked Sendable {
    /// The interval at which deadlines are checked. Every timeout of the edge is late by up to this much.
    static let interval = TimeAmount.milliseconds(250)

    let resources: LoopResources
    private var connections: [HTTP1Connection] = []
    private var unflushed: [HTTP1Connection] = []
    private var spare: [HTTP1Connection] = []
    private var isFlushScheduled = false
    private var sweep: RepeatedTask?

    init(loop: any EventLoop) {
        resources = LoopResources(loop: loop)
    }

    var loop: any EventLoop { resources.loop }

    // MARK: Connections and their deadlines

    /// Starts checking deadlines. Called once, on the loop.
    func start() {
        loop.preconditionInEventLoop()
        sweep = loop.scheduleRepeatedTask(initialDelay: Self.interval, delay: Self.interval) { _ in
            let now = NIODeadline.now()
            // A connection may be removed by its own tick. Walking from the end, the one that is moved into its place
            // has been ticked already.
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

    /// Closes idle connections; the others close after their response.
    func drain() {
        for connection in Array(connections) { connection.drain() }
    }

    func closeAll() {
        for connection in Array(connections) { connection.closeNow() }
    }

    // MARK: Flushing once a turn

    /// Flushes `connection` once everything else that is due in this turn of the loop has run.
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
}

/// The ``EdgeLoopState`` of every loop. Immutable.
final class EdgeLoopStates: Sendable {
    private let states: [ObjectIdentifier: EdgeLoopState]

    init(_ loops: [any EventLoop]) {
        states = Dictionary(uniqueKeysWithValues: loops.map { (ObjectIdentifier($0), EdgeLoopState(loop: $0)) })
    }

    subscript(loop: any EventLoop) -> EdgeLoopState {
        guard let state = states[ObjectIdentifier(loop)] else {
            preconditionFailure("a connection is on one of our loops")
        }
        return state
    }

    /// Runs `body` for each loop, on that loop.
    func forEach(_ body: @escaping @Sendable (EdgeLoopState) -> Void) async {
        for state in states.values {
            try? await state.loop.submit { body(state) }.get()
        }
    }
}
