import HopProtocol
import NIOCore
import Store
import Transport
import Tunnel

/// One end of a session between two replicas. Both have verified each other's certificate when it is established; then
/// each sends PEER, and requests may follow once the other's has arrived.
///
/// Confined to the session's event loop, which holds it as the handler of the session and of its control stream.
final class MeshSession: SessionHandler {
    private let mesh: Mesh
    /// The replica that was dialed, or `nil` at the end that accepted the session.
    private let dialed: Incarnation?
    private var session: TunnelSession?
    private var codec = ControlCodec()
    /// The replica at the other end, once it has sent PEER.
    private var peer: Incarnation?

    init(mesh: Mesh, dialed: Incarnation? = nil) {
        self.mesh = mesh
        self.dialed = dialed
    }

    func sessionEstablished(_ session: TunnelSession) {
        self.session = session
        session.control.handler = self
        session.setKeepAlive(Mesh.keepAlive)
        let own = PeerMessage(cluster: mesh.cluster, incarnation: mesh.incarnation.description)
        if let bytes = try? ControlCodec.encode(.peer(own)) { session.control.write(bytes) }
    }

    func session(_ session: TunnelSession, opened stream: TunnelStream) {
        guard let peer else {
            stream.reset(.refused)
            stream.stopSending(.refused)
            return
        }
        mesh.accept(stream, from: peer)
    }

    func sessionClosed(_ session: TunnelSession, reason: SessionCloseReason) {
        mesh.closed(session, of: peer, dialed: dialed, reason: reason)
        self.session = nil
        session.handler = nil
    }

    private func handle(_ message: ControlMessage) {
        guard case .peer(let message) = message, peer == nil, let session else { return }
        let named = MeshIdentity.incarnation(uri: session.peerURI)
        guard message.cluster == mesh.cluster else {
            return refuse("the replica belongs to cluster \(message.cluster.prefix(64))")
        }
        guard let incarnation = Incarnation(message.incarnation), incarnation == named else {
            return refuse("the certificate of the replica names another one")
        }
        guard incarnation != mesh.incarnation else { return refuse("the address is the own one") }
        if let dialed, dialed != incarnation { return refuse("another replica has the address") }
        peer = incarnation
        session.authenticated()
        mesh.register(session, of: incarnation, dialer: dialed == nil ? incarnation : mesh.incarnation)
    }

    private func refuse(_ reason: String) {
        mesh.refused(reason, session?.remoteAddress)
        session?.close(.authFailed, reason: reason)
    }
}

extension MeshSession: StreamHandler {
    func streamRead(_ bytes: ByteBuffer) {
        session?.control.consumed(bytes.readableBytes)
        codec.feed(bytes)
        do throws(HopError) {
            while let message = try codec.next() { handle(message) }
        } catch {
            session?.close(.protocolViolation, reason: error.message)
        }
    }

    func streamFinished() { session?.close(.protocolViolation, reason: "the control stream ended") }
    func streamFailed(_ failure: StreamFailure) {
        session?.close(.protocolViolation, reason: "the control stream was reset")
    }
    func streamStopped(code: ApplicationErrorCode) {
        session?.close(.protocolViolation, reason: "the control stream was stopped")
    }
    func streamWritable() {}
}
