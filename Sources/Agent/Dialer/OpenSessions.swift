import NIOCore
import Synchronization

/// The tunnels of an agent that are not over, each on its loop, so that all can be told to leave.
final class OpenSessions: Sendable {
    private struct Entry: Sendable {
        var session: NIOLoopBound<GatewaySession>
        var loop: any EventLoop
    }

    private let sessions = Mutex<[ObjectIdentifier: Entry]>([:])

    /// On the session's loop.
    func add(_ session: GatewaySession, on loop: any EventLoop) {
        let entry = Entry(session: NIOLoopBound(session, eventLoop: loop), loop: loop)
        sessions.withLock { $0[ObjectIdentifier(session)] = entry }
    }

    func remove(_ session: GatewaySession) {
        sessions.withLock { _ = $0.removeValue(forKey: ObjectIdentifier(session)) }
    }

    var isEmpty: Bool { sessions.withLock { $0.isEmpty } }

    /// From anywhere; `body` runs on each session's loop.
    func forEach(_ body: @escaping @Sendable (GatewaySession) -> Void) {
        for entry in sessions.withLock({ Array($0.values) }) {
            entry.loop.execute { body(entry.session.value) }
        }
    }
}
