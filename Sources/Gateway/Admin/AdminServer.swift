package import NIOCore
package import Observability

/// The listener of the admin port: JSON under `/v1`, with a bearer token. It listens on the loopback address unless
/// configured otherwise, and no route of the public listeners leads to it.
package final class AdminServer: Sendable {
    package var localAddress: SocketAddress { server.localAddress }
    private let server: ResponderServer
    private let tokens: AdminTokens

    package static func start(
        host: String,
        port: Int,
        on loop: any EventLoop,
        tokens: AdminTokens,
        responder: AdminResponder,
        limits: ResponderLimits = AdminServer.limits
    ) async throws -> AdminServer {
        AdminServer(
            try await ResponderServer.start(host: host, port: port, on: loop, limits: limits) { responder.answer($0) },
            tokens
        )
    }

    package static var limits: ResponderLimits {
        var limits = ResponderLimits()
        limits.maximumBody = AdminResponder.bodyLimit
        return limits
    }

    private init(_ server: ResponderServer, _ tokens: AdminTokens) {
        self.server = server
        self.tokens = tokens
    }

    package func close() async {
        await server.close()
        tokens.stop()
    }
}
