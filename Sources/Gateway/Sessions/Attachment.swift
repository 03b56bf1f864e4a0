package import Cluster
package import Credentials
import HopProtocol
package import NIOCore
package import Store
import Synchronization
package import Transport

/// An agent's session that is admitted and accepts requests, with its load.
///
/// Created by ``AgentSession``, held by ``AgentRegistry``, and used by requests on all event loops; mutable state is
/// atomic.
package final class Attachment: Upstream {
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
    package var replica: Incarnation? { nil }

    package func openStream(handler streamHandler: any StreamHandler, on userLoop: any EventLoop) -> TunnelStream {
        session.openStream(handler: streamHandler, on: userLoop)
    }

    /// Adds the growth of the session's statistics since the last sample to the metrics. Called on the session's loop.
    func sample() { handler.value.sample() }

    /// Tells the agent which of its hosts belong to others, after that may have changed. Called on any thread.
    package func reportHosts() { session.loop.execute { self.handler.value.reportHosts() } }

    /// Applies a change of the agent's credential. Called on any thread.
    func credentialChanged() { session.loop.execute { self.handler.value.credentialChanged() } }

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
