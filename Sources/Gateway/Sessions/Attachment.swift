package import HopProtocol
package import NIOCore
import Synchronization
package import Transport

/// One agent's session that takes requests: what an agent said in HELLO, and how much it has to do.
///
/// Shared by all loops; everything that changes is atomic.
package final class Attachment: Sendable {
    package enum State: UInt8, Sendable {
        case active
        /// Another run of the same name came: nothing new goes here until this one gives a sign of life.
        case suspended
        /// It said GOAWAY.
        case leaving
        case ended
    }

    /// The session's id.
    package let id: UInt64
    package let session: TunnelSession
    /// The token's id and NAME.
    package let tokenID: String
    package let name: String
    /// What it authenticated with.
    package let secret: SecretHash
    /// The agent's own name, its run, and the number of this attachment within the run.
    package let instance: String
    package let run: RunID
    package let number: UInt64
    package let maxRequests: Int
    /// When it was let in.
    package let since: NIODeadline

    private let current = Atomic<UInt8>(State.active.rawValue)
    private let requests = Atomic<Int>(0)

    package init(
        session: TunnelSession,
        tokenID: String,
        name: String,
        secret: SecretHash,
        instance: String,
        run: RunID,
        number: UInt64,
        maxRequests: Int,
        since: NIODeadline = .now()
    ) {
        self.id = session.id
        self.session = session
        self.tokenID = tokenID
        self.name = name
        self.secret = secret
        self.instance = instance
        self.run = run
        self.number = number
        self.maxRequests = maxRequests
        self.since = since
    }

    package var state: State { State(rawValue: current.load(ordering: .relaxed)) ?? .ended }

    /// Moves from one state to another unless something else happened meanwhile; nothing follows ``State/ended``.
    @discardableResult
    package func move(from old: State, to new: State) -> Bool {
        current.compareExchange(expected: old.rawValue, desired: new.rawValue, ordering: .relaxed).exchanged
    }

    package func end() { current.store(State.ended.rawValue, ordering: .relaxed) }

    // MARK: Load

    package var requestsInFlight: Int { requests.load(ordering: .relaxed) }
    package var hasRoom: Bool { requestsInFlight < maxRequests }
    package func began() { requests.wrappingAdd(1, ordering: .relaxed) }
    package func ended() { requests.wrappingSubtract(1, ordering: .relaxed) }
}
