import Glibc

/// A function that starts a thread: ``startThread(_:_:)``, or in tests one that fails.
package typealias ThreadStarter = @Sendable (_ name: String, _ body: @escaping @Sendable () -> Void) -> Bool

/// Starts a detached thread on which every signal is blocked that the process does not raise itself.
///
/// Signals are the main thread's, and a write to a closed pipe shall fail with `EPIPE`. Threads that the new one
/// starts, as libcurl does to look up names, inherit the mask.
///
/// - Parameter name: The name in debuggers and in `/proc`; at most 15 bytes.
/// - Returns: `false` if the system has no thread or memory left. The body is not called then.
package func startThread(_ name: String, _ body: @escaping @Sendable () -> Void) -> Bool {
    let start = Unmanaged.passRetained(ThreadStart(name: name, body: body))
    var mask = blockedSignals()
    var before = sigset_t()
    pthread_sigmask(SIG_SETMASK, &mask, &before)
    var thread = pthread_t()
    let failure = pthread_create(
        &thread,
        nil,
        { argument in
            // `argument` is the pointer below, which is never nil.
            Unmanaged<ThreadStart>.fromOpaque(argument!).takeRetainedValue().run()
            return nil
        },
        start.toOpaque()
    )
    pthread_sigmask(SIG_SETMASK, &before, nil)
    guard failure == 0 else {
        start.release()
        ThreadLimit.recordFailure()
        return false
    }
    pthread_detach(thread)
    return true
}

/// All signals but those that a thread's own fault raises: if they were blocked, a crash would leave no backtrace.
private func blockedSignals() -> sigset_t {
    var mask = sigset_t()
    sigfillset(&mask)
    for fault in [SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGTRAP, SIGABRT, SIGSYS] { sigdelset(&mask, fault) }
    return mask
}

/// The argument of a new thread.
private final class ThreadStart {
    let name: String
    let body: @Sendable () -> Void

    init(name: String, body: @escaping @Sendable () -> Void) {
        self.name = name
        self.body = body
    }

    func run() {
        // Swift's Glibc has no pthread_setname_np.
        let file = open("/proc/thread-self/comm", O_WRONLY | O_CLOEXEC)
        if file >= 0 {
            _ = write(file, name, name.utf8.count)
            close(file)
        }
        body()
    }
}
