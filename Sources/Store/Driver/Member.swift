package import NIOCore

/// The parameters of ``Store/join(_:)``.
package struct JoinOptions: Sendable {
    /// Creates the name of this process: called at the start, and again whenever others have archived it.
    package var incarnation: @Sendable () -> Incarnation
    /// Returns what the member publishes about itself, sealed; at most ``Volume/infoLimit`` bytes.
    package var info: @Sendable (Incarnation) -> [UInt8]
    /// Called with each new name after the first, when the rows have already been published under it.
    package var onNewIncarnation: @Sendable (Incarnation) -> Void

    package init(
        incarnation: @escaping @Sendable () -> Incarnation,
        info: @escaping @Sendable (Incarnation) -> [UInt8],
        onNewIncarnation: @escaping @Sendable (Incarnation) -> Void = { _ in }
    ) {
        self.incarnation = incarnation
        self.info = info
        self.onNewIncarnation = onNewIncarnation
    }
}

/// The part of a member's heartbeat that the member sets.
package struct MemberStatus: Equatable, Sendable {
    package var state: Heartbeat.State
    /// The number of agent sessions.
    package var sessions: UInt32
    /// The load in thousandths of the capacity.
    package var load: UInt32

    package init(state: Heartbeat.State = .starting, sessions: UInt32 = 0, load: UInt32 = 0) {
        self.state = state
        self.sessions = sessions
        self.load = load
    }
}

/// This process as a member. Calls from any thread return at once; the changes become durable and visible shortly
/// after.
package protocol StoreMember: AnyObject, Sendable {
    /// The name of this process. It changes if others have archived it.
    var incarnation: Incarnation { get }

    /// The mark that covers every change of a value that this process has written so far.
    var mark: Mark { get }

    func update(_ change: @escaping @Sendable (inout MemberStatus) -> Void)

    /// Sets a row.
    ///
    /// - Throws: `tooLarge` for a key or a value above its limit, `full` if too many changes wait for the volume.
    func put(key: [UInt8], value: [UInt8]) throws(StoreError)

    /// Removes a row.
    ///
    /// - Throws: `full` if too many changes wait for the volume.
    func remove(key: [UInt8]) throws(StoreError)

    /// Publishes ``JoinOptions/info`` again, because it returns something new.
    func renewInfo()

    /// Returns when every earlier change is durable, or throws the error of the write.
    ///
    /// - Parameter limit: The longest time to wait.
    /// - Throws: `stalled` if it took longer, `busy` if too many flushes wait; the changes may still be written.
    func flush(within limit: TimeAmount) async throws(StoreError)
}

extension StoreMember {
    package func flush() async throws(StoreError) { try await flush(within: .seconds(10)) }
}

/// An observation of the other members. Events of one member never overlap, and none follows ``gone(_:)``.
package enum MemberEvent: Sendable {
    /// The members were listed for the first time.
    case listed([Incarnation])
    /// The information that a member publishes about itself, at first and whenever it has changed, or the reason why it
    /// cannot be read.
    case joined(Incarnation, info: Result<[UInt8], StoreError>)
    /// The member's heartbeat has moved.
    ///
    /// - seen: The changes of others that the member has acted on.
    /// - at: The time at which it was seen to move.
    case status(Incarnation, MemberStatus, seen: Mark, at: NIODeadline)
    case rows(Incarnation, RowChanges)
    /// The member's files cannot be read, or a read has hung for ``StoreHealth/limit``; `nil` if they can be read
    /// again.
    case problem(Incarnation, StoreError?)
    /// The member was archived.
    case gone(Incarnation)
}

/// An observation that lasts until it is released or the store is closed.
package final class MemberObservation: Sendable {
    private let hurried: @Sendable (NIODeadline) -> Void
    private let end: @Sendable () -> Void

    init(hurry: @escaping @Sendable (NIODeadline) -> Void, end: @escaping @Sendable () -> Void) {
        hurried = hurry
        self.end = end
    }

    deinit { end() }

    /// Reads all members several times a second until the given time, because an answer is expected.
    package func hurry(until end: NIODeadline) { hurried(end) }
}
