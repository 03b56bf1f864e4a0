/// Performs blocking work on a new thread and waits for it until a deadline. A thread that hangs is abandoned: this is
/// for starts and command lines, not for frequent work.
///
/// - Parameters:
///   - name: The name of the thread; at most 15 bytes.
///   - limit: The longest time to wait.
///   - timeout: The error after that time, or when the task is cancelled.
///   - refused: The error if no thread could be started.
/// - Throws: The error of `body`, `timeout` or `refused`.
package func withBlockingThread<Value: Sendable, Failure: Error>(
    _ name: String,
    limit: Duration,
    timeout: Failure,
    refused: Failure,
    starter: ThreadStarter = startThread,
    _ body: @escaping @Sendable () throws(Failure) -> Value
) async throws(Failure) -> Value {
    let (results, feed) = AsyncStream.makeStream(of: Result<Value, Failure>.self)
    let isStarted = starter(name) {
        do throws(Failure) {
            feed.yield(.success(try body()))
        } catch {
            feed.yield(.failure(error))
        }
    }
    guard isStarted else { throw refused }
    let result = await withTaskGroup(of: Result<Value, Failure>?.self) { group in
        group.addTask { await results.first { _ in true } }
        group.addTask {
            try? await Task.sleep(for: limit)
            return nil
        }
        defer { group.cancelAll() }
        return await group.next() ?? nil
    }
    guard let result else { throw timeout }
    return try result.get()
}
