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
        self.registry.withLock { contexts in
            if let known = contexts[ObjectIdentifier(loop)] { return known }
            let context = LoopContext(loop: loop, index: contexts.count)
            contexts[ObjectIdentifier(loop)] = context
            return context
        }
    }

    private init(loop: any EventLoop, index: Int) {
        self.loop = loop
        self.index = index
        self.flushTask = { [unowned self] in
            self.isFlushScheduled = false
            self.flush()
        }
    }

    // MARK: Turns

    /// Something of ours begins to run on this loop; what it makes due is flushed by the matching ``endTurn()``.
    func beginTurn() {
        self.turnDepth &+= 1
    }

    func endTurn() {
        self.turnDepth &-= 1
        if self.turnDepth == 0 { self.flush() }
    }

    /// The session has something to send, to report or to time.
    func touch(_ session: TunnelSession) {
        guard !session.isDirty else { return }
        session.isDirty = true
        self.dirtySessions.append(session)
        self.scheduleFlush()
    }

    /// The stream has credit to return to a session of another loop.
    func listCredit(_ stream: TunnelStream) {
        self.creditStreams.append(stream)
        self.scheduleFlush()
    }

    /// The stream could not be opened, and its handler learns so after the current call has returned.
    func listRefused(_ stream: TunnelStream) {
        self.refusedStreams.append(stream)
        self.scheduleFlush()
    }

    private func scheduleFlush() {
        guard self.turnDepth == 0, !self.isFlushScheduled, let flushTask = self.flushTask else { return }
        self.isFlushScheduled = true
        self.loop.execute(flushTask)
    }

    private var hasWork: Bool {
        !(self.dirtySessions.isEmpty && self.creditStreams.isEmpty && self.refusedStreams.isEmpty)
    }

    /// Rounds of one flush: what handlers do in it makes work again, and others on this loop must get their turn.
    private static var maxRounds: Int { 8 }

    private func flush() {
        self.turnDepth &+= 1
        var rounds = 0
        while self.hasWork && rounds < Self.maxRounds {
            rounds &+= 1
            self.settleStreams()
            swap(&self.dirtySessions, &self.drivenSessions)
            let now = NIODeadline.now()
            for session in self.drivenSessions {
                session.isDirty = false
                session.drive(now: now)
            }
            self.drivenSessions.removeAll(keepingCapacity: true)
        }
        self.publishOutboxes()
        self.armTimer()
        self.turnDepth &-= 1
        if self.hasWork { self.scheduleFlush() }
    }

    private func settleStreams() {
        if !self.creditStreams.isEmpty {
            for stream in self.creditStreams { stream.returnCredit() }
            self.creditStreams.removeAll(keepingCapacity: true)
        }
        // Handlers may open, and be refused, again: that waits for the next round.
        let refused = self.refusedStreams
        self.refusedStreams.removeAll()
        for stream in refused {
            stream.userFailed(StreamFailure(reason: .refused, anyByteSent: false))
        }
    }

    // MARK: Deadlines

    func setDeadline(_ node: DeadlineNode, at deadline: NIODeadline) {
        self.timers.set(node, at: deadline)
        if self.turnDepth == 0 { self.armTimer() }
    }

    func removeDeadline(_ node: DeadlineNode) {
        self.timers.remove(node)
    }

    private func armTimer() {
        guard let earliest = self.timers.earliest, self.wakeUps.needsCallback(at: earliest) else { return }
        // Fails only when the loop is shut down, and nothing is due on it any more then.
        _ = try? self.loop.scheduleCallback(at: earliest, handler: self)
    }

    // MARK: Other loops

    /// Sends a message to another loop, in order, with the batch of this turn.
    func post(_ message: LoopMessage, to target: LoopContext) {
        self.loop.preconditionInEventLoop()
        let outbox = self.outbox(to: target)
        if outbox.batch.isEmpty { self.filledOutboxes.append(outbox) }
        outbox.batch.append(message)
        self.scheduleFlush()
    }

    private func outbox(to target: LoopContext) -> Outbox {
        if target.index < self.outboxes.count, let known = self.outboxes[target.index] { return known }
        while self.outboxes.count <= target.index { self.outboxes.append(nil) }
        let outbox = Outbox(target: target)
        self.outboxes[target.index] = outbox
        return outbox
    }

    private func publishOutboxes() {
        guard !self.filledOutboxes.isEmpty else { return }
        for outbox in self.filledOutboxes { outbox.publish() }
        self.filledOutboxes.removeAll(keepingCapacity: true)
    }

    /// A mailbox to this loop has messages.
    fileprivate func handle(_ messages: inout [LoopMessage]) {
        self.beginTurn()
        for message in messages { message.deliver() }
        messages.removeAll(keepingCapacity: true)
        self.endTurn()
    }
}

extension LoopContext: NIOScheduledCallbackHandler {
    package func handleScheduledCallback(eventLoop: some EventLoop) {
        let now = NIODeadline.now()
        self.wakeUps.callbackCame(now: now)
        self.beginTurn()
        while let node = self.timers.popDue(now: now) {
            node.deadlinePassed(now: now)
        }
        self.endTurn()
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
        let reader = MailboxReader(mailbox: self.mailbox, target: target)
        self.drain = { reader.drain() }
    }

    func publish() {
        if self.mailbox.publish(&self.batch) { self.target.loop.execute(self.drain) }
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
        self.mailbox.take(into: &self.batch)
        self.target.handle(&self.batch)
    }
}
