import Logging
import NIOCore
import Observability
import Settings
import Store

/// What operators see and do while the gateway runs.
extension GatewayProcess {
    static func startAdmin(
        _ configuration: GatewayConfiguration,
        on loop: any EventLoop,
        shared: SharedStore,
        metrics: GatewayMetrics,
        sources: AdminSources,
        logger: Logger
    ) async throws -> AdminServer {
        let tokens: AdminTokens
        if let file = configuration.adminTokenFile {
            do {
                tokens = try AdminTokens(file: file) { problem in
                    logger.error(
                        "the admin token cannot be read again; the last one stays good",
                        metadata: ["error": "\(problem)"]
                    )
                }
            } catch {
                throw GatewayStartError(error.description)
            }
        } else {
            tokens = AdminTokens { shared.keyring }
        }
        let access = AdminAccess(tokens: tokens) { metrics.adminFailures[$0].increment() }
        let address = configuration.adminListen
        do {
            return try await AdminServer.start(
                host: address.host,
                port: address.port,
                on: loop,
                tokens: tokens,
                responder: AdminResponder(access: access, sources: sources)
            )
        } catch {
            tokens.stop()
            throw GatewayStartError("admin_listen: cannot listen on \(address): \(error)")
        }
    }

    /// Says once what the volume cannot do. Nothing waits for it.
    static func selfTest(_ shared: SharedStore, _ logger: Logger) async {
        guard let volume = shared.volume?.volume else { return }
        do throws(StoreError) {
            let report = try await onThread("store-selftest", deadline: .seconds(60), place: volume.files.root) {
                () throws(StoreError) in volume.selfTest()
            }
            for problem in report.problems {
                logger.warning("the volume cannot do what the store needs", metadata: ["problem": "\(problem)"])
            }
        } catch {
            logger.warning("the volume could not be tried", metadata: ["error": "\(error)"])
        }
    }
}

/// A wish for the drain: told once however often it is expressed.
final class DrainRequest: Sendable {
    private let asked: AsyncStream<Void>
    private let continuation: AsyncStream<Void>.Continuation

    init() {
        (asked, continuation) = AsyncStream.makeStream(bufferingPolicy: .bufferingNewest(1))
    }

    func ask() {
        continuation.yield()
        continuation.finish()
    }

    /// Returns when it was asked for, or when the task is cancelled.
    func wait() async {
        for await _ in asked { return }
    }
}
