package import NIOCore

/// Does blocking work on a thread of its own and waits for it until a deadline. What hangs is left to hang there: for
/// starts and command lines, not for what is done often.
///
/// - Parameters:
///   - name: of the thread, at most 15 bytes.
///   - place: what is waited for, for the message.
/// - Throws: `stalled` at the deadline.
package func onThread<Result: Sendable>(
    _ name: String,
    deadline: TimeAmount,
    place: String,
    _ body: @escaping @Sendable () throws(StoreError) -> Result
) async throws(StoreError) -> Result {
    let timers = TimerThread()
    defer { timers.close() }
    let result: Swift.Result<Result, StoreError> = await withCheckedContinuation { continuation in
        let waiter = PendingCall(continuation)
        startThread(name) {
            do throws(StoreError) {
                _ = waiter.answer(.success(try body()))
            } catch {
                _ = waiter.answer(.failure(error))
            }
        }
        timers.schedule(at: .now() + deadline) {
            let reason = "the volume does not answer; is its server up?"
            _ = waiter.answer(.failure(StoreError(.stalled, place, reason)))
        }
    }
    return try result.get()
}
