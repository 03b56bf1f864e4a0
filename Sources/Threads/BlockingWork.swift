/// Performs blocking work on a new thread and waits for it until a deadline. A thread that hangs is abandoned: this is for
/// starts and command lines, not for frequent work.
///
/// - Parameters:
///   - name: The name of the thread; at most 15 bytes.
///   - limit: The longest time to wait.
///   - timeout: The error after that time.
/// - Throws: The error of `body`, or `timeout`.
package func withBlockingThread<Value: Sendable, Failure: Error>(
    _ name: String,
    limit: Duration,
    timeout: Failure,
    _ body: @escaping @Sendable () throws(Failure) -> Value
) async throws(Failure) -> Value {
    let timers = TimerThread(name: "\(name.prefix(9))-timer")
    defer { timers.close() }
    let (deadline, overflow) = uptimeNanoseconds().addingReportingOverflow(limit.clampedNanoseconds)
    let result: Result<Value, Failure> = await withCheckedContinuation { continuation in
        let call = PendingCall(continuation, dropped: timeout)
        startThread(name) {
            do throws(Failure) {
                call.resume(.success(try body()))
            } catch {
                call.resume(.failure(error))
            }
        }
        timers.schedule(uptimeNanoseconds: overflow ? .max : deadline) { call.resume(.failure(timeout)) }
    }
    return try result.get()
}
