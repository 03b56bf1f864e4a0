package import Cluster
package import NIOCore
package import Store
package import Transport

/// A place that requests can be sent to: an attachment of this replica, or one of another replica, reached through the
/// mesh.
package protocol Upstream: AnyObject, Sendable {
    var info: AttachmentInfo { get }
    /// The replica that holds the attachment, or `nil` if it is this one. Session ids are unique within a replica.
    var replica: Incarnation? { get }

    /// Opens a stream that leads to the agent. Called on `userLoop`.
    func openStream(handler: any StreamHandler, on userLoop: any EventLoop) -> TunnelStream

    func requestStarted()
    func requestEnded()
}

/// The identity of an upstream in one process.
package struct UpstreamID: Equatable, Sendable {
    package let replica: Incarnation?
    package let session: UInt64

    package init(replica: Incarnation?, session: UInt64) {
        self.replica = replica
        self.session = session
    }
}

extension Upstream {
    package var upstreamID: UpstreamID { UpstreamID(replica: replica, session: info.id) }
}
