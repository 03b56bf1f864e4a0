package import Cluster
import HopProtocol
package import NIOCore
package import Store
package import Transport

/// An attachment of another replica, for one attempt at a request.
package final class RemoteAttachment: Upstream {
    package let info: AttachmentInfo
    private let owner: RemoteReplica
    private let session: TunnelSession

    package var replica: Incarnation? { owner.incarnation }

    /// - Parameter session: The session with the replica that holds the attachment.
    init(_ info: AttachmentInfo, owner: RemoteReplica, session: TunnelSession) {
        self.info = info
        self.owner = owner
        self.session = session
    }

    package func openStream(handler: any StreamHandler, on userLoop: any EventLoop) -> TunnelStream {
        let stream = session.openStream(handler: handler, on: userLoop)
        var bytes = ByteBuffer()
        MessageEncoder.writeHop(HopHead(replica: owner.incarnation.number, session: info.id), into: &bytes)
        stream.write(bytes)
        return stream
    }

    package func requestStarted() { owner.requestStarted() }
    package func requestEnded() { owner.requestEnded() }
}

extension Incarnation {
    /// The incarnation as one number.
    package var number: UInt128 { UInt128(high) << 64 | UInt128(low) }
}
