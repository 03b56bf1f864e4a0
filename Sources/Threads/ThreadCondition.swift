package import Glibc

/// A mutex and a condition variable of the C library, for threads that wait until a deadline on the monotonic clock.
package final class ThreadCondition: @unchecked Sendable {
    // Allocated, because both have to keep their address and a stored property of a class need not.
    @usableFromInline
    let mutex = UnsafeMutablePointer<pthread_mutex_t>.allocate(capacity: 1)
    private let condition = UnsafeMutablePointer<pthread_cond_t>.allocate(capacity: 1)

    package init() {
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

    @inlinable
    package func withLock<Result>(_ body: () -> Result) -> Result {
        pthread_mutex_lock(mutex)
        defer { pthread_mutex_unlock(mutex) }
        return body()
    }

    /// Releases the lock, waits for a signal, and acquires the lock again. Call it with the lock held, in a loop that
    /// checks the condition: a wait can end without a signal.
    ///
    /// - Parameter deadline: The uptime in nanoseconds at which the wait ends, or `nil` if it has no limit.
    /// - Returns: `false` if the deadline passed.
    @discardableResult
    package func wait(until deadline: UInt64? = nil) -> Bool {
        guard let deadline else { return pthread_cond_wait(condition, mutex) == 0 }
        var time = timespec(
            tv_sec: Int(min(deadline / 1_000_000_000, UInt64(Int32.max))),
            tv_nsec: Int(deadline % 1_000_000_000)
        )
        return pthread_cond_timedwait(condition, mutex, &time) == 0
    }

    /// Wakes one waiting thread.
    package func signal() { pthread_cond_signal(condition) }

    /// Wakes all waiting threads.
    package func broadcast() { pthread_cond_broadcast(condition) }
}
