package import NIOCore
import Synchronization

/// The state that all sessions and streams of one event loop share: the deadline heap, the buffers that packets pass
/// through, the outboxes to other loops, and the list of sessions to drive when the loop's turn ends.
///
/// Think of it as the per-loop half of the transport. A *turn* is one run of our code on the loop: a socket read, a
/// timer, a batch of messages of another loop. Sessions and streams mark themselves during a turn (``touch(_:)``,
/// ``scheduleCredit(_:)``, ``post(_:to:)``), and the end of the outermost turn drives every marked session once,
/// publishes the outboxes and arms the timer. That is why one turn costs one burst per session and one wake-up per
/// other loop, however many calls it contained.
///
/// There is one context for each event loop, created on first use and kept for the life of the process, as the loops
/// are. All members but `loop`, `index` and ``of(_:)`` are confined to that loop, which makes the class `Sendable`.
package final class LoopContext: @unchecked Sendable {
    package let loop: any EventLoop
    /// The number of the loop. Numbers are dense, so that an outbox is found by subscript.
    let index: Int

    private(set) var timers = DeadlineHeap()
    private var wakeUps = WakeUpStack()

    private var dirtySessions: [TunnelSession] = []
    private var drivenSessions: [TunnelSession] = []
    private var creditStreams: [TunnelStream] = []
    private var refusedStreams: [TunnelStream] = []
    private var outboxes: [Outbox?] = []
    private var filledOutboxes: [Outbox] = []
    /// The number of turns on the stack. The end of the outermost one flushes.
    private var turnDepth = 0
    private var isFlushScheduled = false
    /// The closure that flushes, created once so that scheduling it allocates nothing.
    private var flushTask: (@Sendable () -> Void)?

    /// The buffer for the plaintext of one record, received or to be sent: 16,384 bytes and some spare room.
    private(set) lazy var scratch = UnsafeMutableRawBufferPointer.allocate(byteCount: 17 << 10, alignment: 16)
    /// The buffer for the sealed records of one burst.
    private(set) lazy var arena = UnsafeMutableRawBufferPointer.allocate(byteCount: 96 << 10, alignment: 16)

    private static let registry = Mutex<[ObjectIdentifier: LoopContext]>([:])

    /// Returns the context of `loop`. Callable from any thread.
    package static func of(_ loop: any EventLoop) -> LoopContext {
        registry.withLock { contexts in
            if let known = contexts[ObjectIdentifier(loop)] { return known }
            let context = LoopContext(loop: loop, index: contexts.count)
            contexts[ObjectIdentifier(loop)] = context
            return context
        }
    }

    private init(loop: any EventLoop, index: Int) {
        self.loop = loop
        self.index = index
        flushTask = { [unowned self] in
            isFlushScheduled = false
            flush()
        }
    }

    // MARK: Turns

    /// Begins a turn on this loop. The matching ``endTurn()`` flushes the work that the turn creates.
    func beginTurn() {
        turnDepth &+= 1
    }

    /// Ends a turn. The end of the outermost turn flushes.
    func endTurn() {
        turnDepth &-= 1
        if turnDepth == 0 { flush() }
    }

    /// Marks a session to be driven at the end of the turn because it has something to send, to report or to time.
    func touch(_ session: TunnelSession) {
        guard !session.isDirty else { return }
        session.isDirty = true
        dirtySessions.append(session)
        scheduleFlush()
    }

    /// Marks a stream that has credit to return to a session of another loop.
    func scheduleCredit(_ stream: TunnelStream) {
        creditStreams.append(stream)
        scheduleFlush()
    }

    /// Marks a stream that could not be opened. Its handler is notified after the current call has returned.
    func scheduleRefusal(_ stream: TunnelStream) {
        refusedStreams.append(stream)
        scheduleFlush()
    }

    private func scheduleFlush() {
        guard turnDepth == 0, !isFlushScheduled, let flushTask else { return }
        isFlushScheduled = true
        loop.execute(flushTask)
    }

    private var hasWork: Bool {
        !(dirtySessions.isEmpty && creditStreams.isEmpty && refusedStreams.isEmpty)
    }

    /// The most rounds of one flush. Handlers create new work in each of them, and other users of this loop must get
    /// their turn.
    private static var maxRounds: Int { 8 }

    /// Drives the marked sessions, publishes the outboxes and arms the timer.
    private func flush() {
        turnDepth &+= 1
        var rounds = 0
        while hasWork && rounds < Self.maxRounds {
            rounds &+= 1
            settleStreams()
            swap(&dirtySessions, &drivenSessions)
            let now = NIODeadline.now()
            for session in drivenSessions {
                session.isDirty = false
                session.drive(now: now)
            }
            drivenSessions.removeAll(keepingCapacity: true)
        }
        publishOutboxes()
        armTimer()
        turnDepth &-= 1
        if hasWork { scheduleFlush() }
    }

    private func settleStreams() {
        if !creditStreams.isEmpty {
            for stream in creditStreams { stream.returnCredit() }
            creditStreams.removeAll(keepingCapacity: true)
        }
        // Handlers may open streams and be refused again: those wait for the next round.
        let refused = refusedStreams
        refusedStreams.removeAll()
        for stream in refused {
            stream.userFailed(StreamFailure(reason: .refused, anyByteSent: false))
        }
    }

    // MARK: Deadlines

    /// Inserts or moves a deadline of this loop.
    func setDeadline(_ node: DeadlineNode, at deadline: NIODeadline) {
        timers.set(node, at: deadline)
        if turnDepth == 0 { armTimer() }
    }

    func removeDeadline(_ node: DeadlineNode) {
        timers.remove(node)
    }

    private func armTimer() {
        guard let earliest = timers.earliest, wakeUps.needsCallback(at: earliest) else { return }
        // Fails only when the loop is shut down, and then nothing is due on it any more.
        _ = try? loop.scheduleCallback(at: earliest, handler: self)
    }

    // MARK: Other loops

    /// Sends a message to another loop, in order, with the batch of this turn.
    func post(_ message: LoopMessage, to target: LoopContext) {
        loop.preconditionInEventLoop()
        let outbox = self.outbox(to: target)
        if outbox.batch.isEmpty { filledOutboxes.append(outbox) }
        outbox.batch.append(message)
        scheduleFlush()
    }

    private func outbox(to target: LoopContext) -> Outbox {
        if target.index < outboxes.count, let known = outboxes[target.index] { return known }
        while outboxes.count <= target.index { outboxes.append(nil) }
        let outbox = Outbox(target: target)
        outboxes[target.index] = outbox
        return outbox
    }

    private func publishOutboxes() {
        guard !filledOutboxes.isEmpty else { return }
        for outbox in filledOutboxes { outbox.publish() }
        filledOutboxes.removeAll(keepingCapacity: true)
    }

    /// Delivers the messages that another loop has sent to this one.
    fileprivate func handle(_ messages: inout [LoopMessage]) {
        beginTurn()
        for message in messages { message.deliver() }
        messages.removeAll(keepingCapacity: true)
        endTurn()
    }
}

extension LoopContext: NIOScheduledCallbackHandler {
    package func handleScheduledCallback(eventLoop: some EventLoop) {
        let now = NIODeadline.now()
        wakeUps.callbackArrived(now: now)
        beginTurn()
        while let node = timers.popDue(now: now) {
            node.deadlinePassed(now: now)
        }
        endTurn()
    }
}

/// One direction between two loops: the batch of the sender's turn, and the mailbox that it is published to. Confined
/// to the sender's loop.
private final class Outbox {
    var batch: [LoopMessage] = []
    private let mailbox = LoopMailbox<LoopMessage>()
    private let target: LoopContext
    private let drain: @Sendable () -> Void

    init(target: LoopContext) {
        self.target = target
        let reader = MailboxReader(mailbox: mailbox, target: target)
        drain = { reader.drain() }
    }

    func publish() {
        if mailbox.publish(&batch) { target.loop.execute(drain) }
    }
}

/// The receiving end of a mailbox. `batch` is confined to the target's loop.
private final class MailboxReader: @unchecked Sendable {
    private let mailbox: LoopMailbox<LoopMessage>
    private let target: LoopContext
    private var batch: [LoopMessage] = []

    init(mailbox: LoopMailbox<LoopMessage>, target: LoopContext) {
        self.mailbox = mailbox
        self.target = target
    }

    func drain() {
        mailbox.drain(into: &batch)
        target.handle(&batch)
    }
}
