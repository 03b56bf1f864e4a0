package import Credentials
package import HopProtocol
package import NIOCore
import Synchronization
package import Transport

/// The identity of one attachment, as the token and the agent's HELLO state it.
package struct AttachmentInfo: Sendable {
    /// The id of the session.
    package var id: UInt64
    package var tokenID: String
    /// The NAME of the token, by which routes refer to the agent.
    package var agent: String
    /// The agent's own name, from its HELLO.
    package var instance: String
    /// The run of the agent's process.
    package var run: RunID
    /// The number of this attachment within the run.
    package var number: UInt64

    package init(id: UInt64, tokenID: String, agent: String, instance: String, run: RunID, number: UInt64) {
        self.id = id
        self.tokenID = tokenID
        self.agent = agent
        self.instance = instance
        self.run = run
        self.number = number
    }
}

/// An agent's session that is admitted and accepts requests, with its load.
///
/// Created by ``AgentSession``, held by ``AgentRegistry``, and used by requests on all event loops; mutable state is
/// atomic.
package final class Attachment: Sendable {
    package enum State: UInt8, CaseIterable, Sendable {
        case active
        /// Another session of the same name attached. No new request is sent here until the agent responds to a probe.
        case suspended
        /// The agent sent GOAWAY.
        case leaving
        case ended
    }

    package let info: AttachmentInfo
    package let session: TunnelSession
    /// The hash of the secret that the agent authenticated with.
    package let secret: SecretHash
    package let maxRequests: Int
    /// The time of admission.
    package let attachedAt = NIODeadline.now()
    private let handler: NIOLoopBound<AgentSession>

    private let current = Atomic<UInt8>(State.active.rawValue)
    private let requests = Atomic<Int>(0)

    /// Creates an attachment on the session's loop.
    init(_ info: AttachmentInfo, session: TunnelSession, handler: AgentSession, secret: SecretHash, maxRequests: Int) {
        self.info = info
        self.session = session
        self.handler = NIOLoopBound(handler, eventLoop: session.loop)
        self.secret = secret
        self.maxRequests = maxRequests
    }

    package var id: UInt64 { info.id }

    /// Adds the growth of the session's statistics since the last sample to the metrics. Called on the session's loop.
    func sample() { handler.value.sample() }

    package var state: State { State(rawValue: current.load(ordering: .relaxed)) ?? .ended }

    /// Moves from `old` to `new`, unless the state has changed since. No state follows ``State/ended``.
    ///
    /// - Returns: Whether the state was `old`.
    @discardableResult
    package func move(from old: State, to new: State) -> Bool {
        current.compareExchange(expected: old.rawValue, desired: new.rawValue, ordering: .relaxed).exchanged
    }

    package func end() { current.store(State.ended.rawValue, ordering: .relaxed) }

    // MARK: Load

    package var requestsInFlight: Int { requests.load(ordering: .relaxed) }
    package var hasCapacity: Bool { requestsInFlight < maxRequests }
    package func requestStarted() { requests.wrappingAdd(1, ordering: .relaxed) }
    package func requestEnded() { requests.wrappingSubtract(1, ordering: .relaxed) }
}
