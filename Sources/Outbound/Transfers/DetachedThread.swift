import Glibc

/// Starts a thread that takes no signals. False: the system has none left.
///
/// - Parameter name: shown by debuggers; at most 15 bytes.
package func startDetachedThread(_ name: String, _ body: @escaping @Sendable () -> Void) -> Bool {
    final class Start {
        let name: String
        let body: @Sendable () -> Void

        init(_ name: String, _ body: @escaping @Sendable () -> Void) {
            self.name = name
            self.body = body
        }
    }
    let start = Unmanaged.passRetained(Start(name, body))
    // The new thread, and those that libcurl starts to look up names, inherit the mask: signals are the main thread's,
    // and SIGPIPE is an errno here.
    var all = sigset_t()
    var before = sigset_t()
    sigfillset(&all)
    pthread_sigmask(SIG_SETMASK, &all, &before)
    var thread = pthread_t()
    let failure = pthread_create(
        &thread,
        nil,
        { argument in
            let start = Unmanaged<Start>.fromOpaque(argument!).takeRetainedValue()
            let file = open("/proc/thread-self/comm", O_WRONLY | O_CLOEXEC)
            if file >= 0 {
                _ = write(file, start.name, start.name.utf8.count)
                close(file)
            }
            start.body()
            return nil
        },
        start.toOpaque()
    )
    pthread_sigmask(SIG_SETMASK, &before, nil)
    guard failure == 0 else {
        start.release()
        return false
    }
    pthread_detach(thread)
    return true
}
