package import NIOCore
import Threads

/// Performs blocking work on a volume on a new thread and waits for it until a deadline. A thread that hangs is
/// abandoned: this is for starts and command lines, not for frequent work.
///
/// - Parameters:
///   - name: The name of the thread; at most 15 bytes.
///   - limit: The longest time to wait.
///   - place: The path that the error names.
/// - Throws: The error of `body`, `stalled` after `limit`, or `busy` if no thread could be started.
package func onThread<Result: Sendable>(
    _ name: String,
    deadline limit: TimeAmount,
    place: String,
    _ body: @escaping @Sendable () throws(StoreError) -> Result
) async throws(StoreError) -> Result {
    let timeout = StoreError(.stalled, place, "the volume does not answer; is its server up?")
    let refused = StoreError(.busy, place, ThreadLimit.message)
    let limit = Duration.nanoseconds(limit.nanoseconds)
    return try await withBlockingThread(name, limit: limit, timeout: timeout, refused: refused, body)
}

extension TimerThread {
    @discardableResult
    func schedule(at due: NIODeadline, _ body: @escaping @Sendable () -> Void) -> UInt64 {
        schedule(uptimeNanoseconds: due.uptimeNanoseconds, body)
    }
}
