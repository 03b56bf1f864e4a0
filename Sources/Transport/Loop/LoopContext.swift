package import NIOCore
import Synchronization

/// What all sessions and streams of one event loop share: the deadline heap, the buffers that packets pass through, the
/// outboxes to other loops, and the list of what must be flushed when the loop's turn ends.
///
/// One for each loop, made when first asked for and kept for the process's life, as the loops are. Everything but
/// `loop` and `index` is touched on that loop alone; that is what makes it `Sendable`.
package final class LoopContext: @unchecked Sendable {
    package let loop: any EventLoop
    /// Dense, so that an outbox is found by subscript.
    let index: Int

    private(set) var timers = DeadlineHeap()
    private var wakeUps = WakeUpStack()

    private var dirtySessions: [TunnelSession] = []
    private var drivenSessions: [TunnelSession] = []
    private var creditStreams: [TunnelStream] = []
    private var refusedStreams: [TunnelStream] = []
    private var outboxes: [Outbox?] = []
    private var filledOutboxes: [Outbox] = []
    /// Above zero while a turn of ours is on the stack: its end flushes.
    private var turnDepth = 0
    private var isFlushScheduled = false
    /// Made once, so that scheduling it allocates no closure.
    private var flushTask: (@Sendable () -> Void)?

    /// The plaintext of one record, in or out: 16,384 B and some room.
    private(set) lazy var scratch = UnsafeMutableRawBufferPointer.allocate(byteCount: 17 << 10, alignment: 16)
    /// The sealed records of one burst.
    private(set) lazy var arena = UnsafeMutableRawBufferPointer.allocate(byteCount: 96 << 10, alignment: 16)

    private static let registry = Mutex<[ObjectIdentifier: LoopContext]>([:])

    /// The context of `loop`. From any thread.
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

    /// Something of ours begins to run on this loop; what it makes due is flushed by the matching ``endTurn()``.
    func beginTurn() {
        turnDepth &+= 1
    }

    func endTurn() {
        turnDepth &-= 1
        if turnDepth == 0 { flush() }
    }

    /// The session has something to send, to report or to time.
    func touch(_ session: TunnelSession) {
        guard !session.isDirty else { return }
        session.isDirty = true
        dirtySessions.append(session)
        scheduleFlush()
    }

    /// The stream has credit to return to a session of another loop.
    func scheduleCredit(_ stream: TunnelStream) {
        creditStreams.append(stream)
        scheduleFlush()
    }

    /// The stream could not be opened, and its handler learns so after the current call has returned.
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

    /// Rounds of one flush: what handlers do in it makes work again, and others on this loop must get their turn.
    private static var maxRounds: Int { 8 }

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
        // Handlers may open, and be refused, again: that waits for the next round.
        let refused = refusedStreams
        refusedStreams.removeAll()
        for stream in refused {
            stream.userFailed(StreamFailure(reason: .refused, anyByteSent: false))
        }
    }

    // MARK: Deadlines

    func setDeadline(_ node: DeadlineNode, at deadline: NIODeadline) {
        timers.set(node, at: deadline)
        if turnDepth == 0 { armTimer() }
    }

    func removeDeadline(_ node: DeadlineNode) {
        timers.remove(node)
    }

    private func armTimer() {
        guard let earliest = timers.earliest, wakeUps.needsCallback(at: earliest) else { return }
        // Fails only when the loop is shut down, and nothing is due on it any more then.
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

    /// A mailbox to this loop has messages.
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

/// One direction between two loops: the batch of the sender's turn, and the mailbox behind it.
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

/// The receiving end of a mailbox; `batch` is touched on the target's loop alone.
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
