import Glibc
import NIOCore
import NIOPosix
import NIOSSL

/// One request and the connection to answer it on.
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

    /// Sends the bytes until the client leaves.
    func sendForever(_ bytes: [UInt8], pause: TimeAmount = .zero) {
        let buffer = ByteBuffer(bytes: bytes)
        @Sendable func again() {
            channel.writeAndFlush(buffer).whenSuccess { channel.eventLoop.scheduleTask(in: pause, again) }
        }
        again()
    }

    /// Ends the connection as a proper server does, after what was sent.
    func close() { channel.close(promise: nil) }

    /// FIN, without TLS saying goodbye.
    func hangUp() { channel.eventLoop.execute { closeFloor() } }

    /// RST: what is on the way is lost.
    func reset() {
        let set = (channel as? any SocketOptionProvider)?.setSoLinger(linger(l_onoff: 1, l_linger: 0))
        set?.whenComplete { _ in closeFloor() }
    }

    private func closeFloor() {
        guard let floor = try? channel.pipeline.syncOperations.context(name: Floor.name) else { return }
        floor.close(mode: .all, promise: nil)
    }

    /// The server's side of TLS from here on.
    func startTLS(_ context: NIOSSLContext) {
        channel.eventLoop.execute {
            let pipeline = channel.pipeline.syncOperations
            guard let floor = try? pipeline.handler(type: Floor.self) else { return }
            try? pipeline.addHandler(NIOSSLServerHandler(context: context), position: .after(floor))
        }
    }
}
