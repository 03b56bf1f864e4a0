import Glibc
import NIOCore
import NIOPosix
import NIOSSL

/// One request and the connection on which to respond.
struct Conversation: Sendable {
    let channel: any Channel
    let request: String

    init(_ channel: any Channel, request: String) {
        self.channel = channel
        self.request = request
    }

    var path: String { String(request.split(separator: " ").dropFirst().first ?? "") }

    func send(_ text: String) { send(Array(text.utf8)) }

    func send(_ bytes: [UInt8]) { channel.writeAndFlush(ByteBuffer(bytes: bytes), promise: nil) }

    /// Sends the bytes repeatedly until the client closes the connection.
    func sendForever(_ bytes: [UInt8], pause: TimeAmount = .zero) {
        let buffer = ByteBuffer(bytes: bytes)
        @Sendable func again() {
            channel.writeAndFlush(buffer).whenSuccess { channel.eventLoop.scheduleTask(in: pause, again) }
        }
        again()
    }

    /// Closes the connection cleanly after the pending writes.
    func close() { channel.close(promise: nil) }

    /// Sends FIN without a TLS close_notify alert.
    func hangUp() { channel.eventLoop.execute { closeFloor() } }

    /// Sends RST: data in flight is lost.
    func reset() {
        let set = (channel as? any SocketOptionProvider)?.setSoLinger(linger(l_onoff: 1, l_linger: 0))
        set?.whenComplete { _ in closeFloor() }
    }

    private func closeFloor() {
        guard let floor = try? channel.pipeline.syncOperations.context(name: Floor.name) else { return }
        floor.close(mode: .all, promise: nil)
    }

    /// Starts the server's side of TLS on the connection.
    func startTLS(_ context: NIOSSLContext) {
        channel.eventLoop.execute {
            let pipeline = channel.pipeline.syncOperations
            guard let floor = try? pipeline.handler(type: Floor.self) else { return }
            try? pipeline.addHandler(NIOSSLServerHandler(context: context), position: .after(floor))
        }
    }
}
