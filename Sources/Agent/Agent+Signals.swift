import Glibc
import Logging
import UnixSignals

extension Agent {
    /// Runs until SIGTERM or SIGINT, then shuts down within the grace. A second signal ends the process at once, with
    /// exit code 1.
    package func runUntilSignalled() async throws {
        let signals = await UnixSignalsSequence(trapping: .sigterm, .sigint)
        try await withThrowingTaskGroup(of: Void.self) { tasks in
            tasks.addTask {
                var isStopping = false
                for await _ in signals {
                    // `exit` flushes the log; nothing else has to be waited for.
                    if isStopping { exit(1) }
                    isStopping = true
                    self.shutdown()
                }
            }
            tasks.addTask { try await self.run() }
            // The agent's task is the first to finish: the sequence of signals is endless.
            try await tasks.next()
            tasks.cancelAll()
        }
    }
}
