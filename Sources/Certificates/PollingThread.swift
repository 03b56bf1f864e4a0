import Glibc
import Synchronization

/// A dedicated thread that repeats one piece of blocking work: at once, then after each interval or ``wake()``.
///
/// Slow storage may block it for long. Neither callers nor ``stop()`` wait for it. It ends when its owner stops or
/// releases it.
package final class PollingThread: Sendable {
    private let core: Core

    /// - Parameters:
    ///   - name: The name in debuggers; at most 15 bytes.
    ///   - interval: The pause between the end of one run and the start of the next, in milliseconds.
    package init(name: String, intervalMilliseconds: Int32, body: @escaping @Sendable () -> Void) {
        self.core = Core(name: name, interval: intervalMilliseconds, body: body)
        var thread = pthread_t()
        let failure = pthread_create(
            &thread,
            nil,
            { argument in
                Unmanaged<Core>.fromOpaque(argument!).takeRetainedValue().run()
                return nil
            },
            Unmanaged.passRetained(core).toOpaque()
        )
        precondition(failure == 0, "no thread could be started: \(String(cString: strerror(failure)))")
        pthread_detach(thread)
    }

    deinit { stop() }

    /// Starts the next run at once, or after the current one.
    package func wake() {
        core.signal()
    }

    /// Prevents further runs. The current one is not awaited.
    package func stop() {
        core.stopped.store(true, ordering: .releasing)
        core.signal()
    }

    private final class Core: Sendable {
        let stopped = Atomic(false)
        private let name: String
        private let interval: Int32
        private let body: @Sendable () -> Void
        /// The pipe that wakes the thread. It lives as long as both the owner and the thread.
        private let reading: Int32
        private let writing: Int32

        init(name: String, interval: Int32, body: @escaping @Sendable () -> Void) {
            self.name = name
            self.interval = interval
            self.body = body
            var ends: [Int32] = [-1, -1]
            precondition(pipe(&ends) == 0, "no pipe: \(String(cString: strerror(errno)))")
            (reading, writing) = (ends[0], ends[1])
            for end in ends {
                _ = fcntl(end, F_SETFD, FD_CLOEXEC)
                _ = fcntl(end, F_SETFL, O_NONBLOCK)
            }
        }

        deinit {
            close(reading)
            close(writing)
        }

        /// Wakes the thread. A full pipe has woken it already.
        func signal() {
            _ = write(writing, [1], 1)
        }

        private func nameThread() {
            let file = open("/proc/thread-self/comm", O_WRONLY | O_CLOEXEC)
            guard file >= 0 else { return }
            _ = write(file, name, name.utf8.count)
            close(file)
        }

        func run() {
            nameThread()
            var drained = [UInt8](repeating: 0, count: 64)
            while !stopped.load(ordering: .acquiring) {
                body()
                var waited = pollfd(fd: reading, events: Int16(POLLIN), revents: 0)
                _ = poll(&waited, 1, interval)
                while read(reading, &drained, drained.count) > 0 {}
            }
        }
    }
}
