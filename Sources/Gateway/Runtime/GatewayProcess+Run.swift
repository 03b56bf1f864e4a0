import Glibc
import Logging
import NIOCore
package import Observability
import UnixSignals

extension GatewayProcess {
    /// Runs `hopgate run`: starts, serves until SIGTERM or SIGINT, lets requests in flight finish within the configured
    /// grace and returns. A second signal ends the process at once.
    ///
    /// - Parameter output: The destination of the access log, from `LoggingSetup.bootstrap`, or `nil` for none.
    package static func run(_ configuration: GatewayConfiguration, version: String, output: LogOutput?) async throws {
        // Writing to a closed socket returns an error instead of raising a signal.
        signal(SIGPIPE, SIG_IGN)
        let logger = Logger(label: "hopgate")
        // Trapped before anything listens, so that a signal during the start is not lost.
        let signals = await UnixSignalsSequence(trapping: .sigterm, .sigint)
        let process = try await start(configuration, version: version, output: output, logger: logger)
        await withTaskGroup(of: Void.self) { group in
            // The sequence allows one iterator, so one loop receives both signals.
            let (stops, stop) = AsyncStream<Void>.makeStream()
            group.addTask {
                var isStopping = false
                for await received in signals {
                    if isStopping {
                        logger.warning("second signal received, exiting", metadata: ["signal": "\(received)"])
                        exit(1)
                    }
                    isStopping = true
                    logger.notice("gateway draining", metadata: ["signal": "\(received)"])
                    stop.finish()
                }
            }
            group.addTask {
                await process.drainRequested()
                guard !Task.isCancelled else { return }
                logger.notice("gateway draining", metadata: ["requested_by": "admin"])
                stop.finish()
            }
            for await _ in stops {}
            await process.shutDown(grace: configuration.shutdownGrace)
            group.cancelAll()
        }
    }
}
