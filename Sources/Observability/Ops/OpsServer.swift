package import NIOCore
import NIOHTTP1

/// The data that the ops server exposes. Every callback runs on its loop and must not block.
package struct OpsSources: Sendable {
    package var metrics: MetricsRegistry
    /// Whether the process is alive, for `/healthz`. Accesses no file and no peer.
    package var isHealthy: @Sendable () -> Bool
    /// The response of `/readyz`.
    package var readiness: @Sendable () -> Readiness

    package init(
        metrics: MetricsRegistry,
        isHealthy: @escaping @Sendable () -> Bool = { true },
        readiness: @escaping @Sendable () -> Readiness
    ) {
        self.metrics = metrics
        self.isHealthy = isHealthy
        self.readiness = readiness
    }
}

/// The listener for probes and scrapers: `GET` or `HEAD` of `/healthz`, `/readyz` and `/metrics` over plain HTTP/1.1,
/// and nothing else. It must not listen on a public address.
package final class OpsServer: Sendable {
    package var localAddress: SocketAddress { server.localAddress }
    private let server: ResponderServer

    /// Binds the listener and starts serving.
    package static func start(
        host: String,
        port: Int,
        on loop: any EventLoop,
        sources: OpsSources,
        limits: ResponderLimits = ResponderLimits()
    ) async throws -> OpsServer {
        OpsServer(
            try await ResponderServer.start(host: host, port: port, on: loop, limits: limits) { sources.answer($0) }
        )
    }

    private init(_ server: ResponderServer) {
        self.server = server
    }

    /// Stops listening and closes every connection.
    package func close() async {
        await server.close()
    }
}

extension OpsSources {
    fileprivate func answer(_ request: ResponderRequest) -> ResponderAnswer {
        guard ["/healthz", "/readyz", "/metrics"].contains(request.path) else {
            return ResponderAnswer(.notFound, body: ByteBuffer(string: "not found\n"))
        }
        guard request.method == .GET || request.method == .HEAD else {
            return .methodNotAllowed("GET, HEAD", body: ByteBuffer(string: "GET and HEAD only\n"))
        }
        switch request.path {
        case "/healthz":
            let isHealthy = isHealthy()
            return ResponderAnswer(
                isHealthy ? .ok : .serviceUnavailable,
                body: ByteBuffer(string: isHealthy ? "ok\n" : "an event loop is not responsive\n")
            )
        case "/readyz":
            let readiness = readiness()
            return ResponderAnswer(
                readiness.isReady ? .ok : .serviceUnavailable,
                type: "application/json",
                body: ByteBuffer(bytes: readiness.json)
            )
        default:
            var body = ByteBuffer()
            metrics.write(into: &body)
            return ResponderAnswer(.ok, type: "text/plain; version=0.0.4; charset=utf-8", body: body)
        }
    }
}
