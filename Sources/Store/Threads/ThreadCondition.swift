internal import Glibc
internal import NIOCore

/// A lock and a condition of the C library, for threads that wait with a deadline on the monotonic clock.
final class ThreadCondition: @unchecked Sendable {
    // Both have to keep their address, and a class's stored properties may not.
    private let mutex = UnsafeMutablePointer<pthread_mutex_t>.allocate(capacity: 1)
    private let condition = UnsafeMutablePointer<pthread_cond_t>.allocate(capacity: 1)

    init() {
        mutex.initialize(to: pthread_mutex_t())
        condition.initialize(to: pthread_cond_t())
        pthread_mutex_init(mutex, nil)
        var attributes = pthread_condattr_t()
        pthread_condattr_init(&attributes)
        pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC)
        pthread_cond_init(condition, &attributes)
        pthread_condattr_destroy(&attributes)
    }

    deinit {
        pthread_cond_destroy(condition)
        pthread_mutex_destroy(mutex)
        condition.deallocate()
        mutex.deallocate()
    }

    func withLock<Result>(_ body: () -> Result) -> Result {
        pthread_mutex_lock(mutex)
        defer { pthread_mutex_unlock(mutex) }
        return body()
    }

    /// Called with the lock held. False: the deadline passed.
    func wait(until deadline: NIODeadline?) -> Bool {
        guard let deadline else { return pthread_cond_wait(condition, mutex) == 0 }
        let nanoseconds = deadline.uptimeNanoseconds
        var time = timespec(
            tv_sec: Int(min(nanoseconds / 1_000_000_000, UInt64(Int32.max))),
            tv_nsec: Int(nanoseconds % 1_000_000_000)
        )
        return pthread_cond_timedwait(condition, mutex, &time) == 0
    }

    func wakeOne() { pthread_cond_signal(condition) }

    func wakeAll() { pthread_cond_broadcast(condition) }
}

/// Starts a detached thread.
///
/// - Parameter name: shown by debuggers; at most 15 bytes.
func startThread(_ name: String, _ body: @escaping @Sendable () -> Void) {
    final class Start {
        let name: String
        let body: @Sendable () -> Void

        init(_ name: String, _ body: @escaping @Sendable () -> Void) {
            self.name = name
            self.body = body
        }
    }
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
        Unmanaged.passRetained(Start(name, body)).toOpaque()
    )
    precondition(failure == 0, "no thread could be started: \(String(cString: strerror(failure)))")
    pthread_detach(thread)
}
