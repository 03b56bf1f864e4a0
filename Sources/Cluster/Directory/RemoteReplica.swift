import HopProtocol
import NIOCore
package import Store
import Synchronization
package import Transport

/// The way to the attachments of another replica: the session of the mesh, while there is one.
package final class RemoteReplica: Sendable {
    package let incarnation: Incarnation
    private let current = Mutex<TunnelSession?>(nil)
    private let requests = Atomic<Int>(0)

    init(_ incarnation: Incarnation) { self.incarnation = incarnation }

    /// The session, or `nil` while the replica cannot be reached.
    package var session: TunnelSession? { current.withLock { $0 } }

    func use(_ session: TunnelSession?) { current.withLock { $0 = session } }

    /// The requests that this process has sent there and that have not ended.
    package var requestsInFlight: Int { requests.load(ordering: .relaxed) }
    package func requestStarted() { requests.wrappingAdd(1, ordering: .relaxed) }
    package func requestEnded() { requests.wrappingSubtract(1, ordering: .relaxed) }
}
