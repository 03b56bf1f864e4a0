import Glibc
import Logging
import UnixSignals

extension Agent {
    /// Runs until SIGTERM or SIGINT, then finishes what is in flight within the grace. A second signal ends the process
    /// at once, with exit code 1.
    package func runUntilSignalled() async throws {
        let signals = await UnixSignalsSequence(trapping: .sigterm, .sigint)
        try await withThrowingTaskGroup(of: Void.self) { tasks in
            tasks.addTask {
                var isStopping = false
                for await _ in signals {
                    // Logs are flushed on the way out; nothing else is worth waiting for.
                    if isStopping { exit(1) }
                    isStopping = true
                    self.shutdown()
                }
            }
            tasks.addTask { try await self.run() }
            // The first to end is the agent, or what it threw: the signals go on for ever.
            try await tasks.next()
            tasks.cancelAll()
        }
    }
}
