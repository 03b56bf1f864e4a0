internal import NIOCore

/// One thread that calls things when they are due. What it calls is short and touches no file, so that it is never late
/// because the volume hangs.
final class TimerThread: @unchecked Sendable {
    private let signal = ThreadCondition()
    // All below belong to whoever holds the signal's lock.
    private var timers: [UInt64: (due: NIODeadline, body: @Sendable () -> Void)] = [:]
    private var earliest: NIODeadline?
    private var lastNumber: UInt64 = 0
    private var isClosed = false

    init() {
        startThread("store-timer") { [self] in run() }
    }

    /// Returns a number for ``cancel(_:)``.
    @discardableResult
    func schedule(at due: NIODeadline, _ body: @escaping @Sendable () -> Void) -> UInt64 {
        signal.withLock {
            lastNumber += 1
            guard !isClosed else { return lastNumber }
            timers[lastNumber] = (due, body)
            if earliest.map({ due < $0 }) ?? true {
                earliest = due
                signal.wakeOne()
            }
            return lastNumber
        }
    }

    func cancel(_ number: UInt64) {
        // The body may hold the last reference to something that has a timer itself: let it go outside the lock.
        let removed = signal.withLock { timers.removeValue(forKey: number) }
        _ = removed
    }

    func close() {
        let dropped = signal.withLock {
            isClosed = true
            defer { timers = [:] }
            signal.wakeOne()
            return timers
        }
        _ = dropped
    }

    private func run() {
        while let due = waitForDue() {
            for body in due { body() }
        }
    }

    private func waitForDue() -> [@Sendable () -> Void]? {
        signal.withLock {
            while !isClosed {
                let now = NIODeadline.now()
                if let earliest, earliest <= now {
                    let due = timers.filter { $0.value.due <= now }
                    for number in due.keys { timers[number] = nil }
                    self.earliest = timers.values.lazy.map(\.due).min()
                    // Nothing if what was due has been cancelled.
                    if !due.isEmpty { return due.sorted { $0.value.due < $1.value.due }.map(\.value.body) }
                } else {
                    _ = signal.wait(until: earliest)
                }
            }
            return nil
        }
    }
}
