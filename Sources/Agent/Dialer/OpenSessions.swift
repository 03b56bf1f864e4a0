import NIOCore
import Synchronization

/// The sessions of an agent that have not closed, each with its event loop, so that all of them can be drained and
/// closed at shutdown.
final class OpenSessions: Sendable {
    private struct Entry: Sendable {
        var session: NIOLoopBound<GatewaySession>
        var loop: any EventLoop
    }

    private let sessions = Mutex<[ObjectIdentifier: Entry]>([:])
    private let attachments = Atomic<UInt64>(0)

    /// The number of the next attempt to attach, counted from one over all gateways.
    func nextAttachNumber() -> UInt64 { attachments.wrappingAdd(1, ordering: .relaxed).newValue }

    /// Adds a session. Must be called on its event loop.
    func add(_ session: GatewaySession, on loop: any EventLoop) {
        let entry = Entry(session: NIOLoopBound(session, eventLoop: loop), loop: loop)
        sessions.withLock { $0[ObjectIdentifier(session)] = entry }
    }

    func remove(_ session: GatewaySession) {
        sessions.withLock { _ = $0.removeValue(forKey: ObjectIdentifier(session)) }
    }

    var isEmpty: Bool { sessions.withLock { $0.isEmpty } }

    /// Runs `body` for each session on that session's event loop, later. May be called on any thread.
    func forEach(_ body: @escaping @Sendable (GatewaySession) -> Void) {
        for entry in sessions.withLock({ Array($0.values) }) {
            entry.loop.execute { body(entry.session.value) }
        }
    }
}
