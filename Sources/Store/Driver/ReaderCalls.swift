import NIOCore

/// The calls that the readers of a store are making. A call whose caller has given up hangs, and keeps its thread: no
/// further call of the same file is made until it returns, however often it is repeated.
struct ReaderCalls {
    private var calls: [UInt64: (subject: String, deadline: NIODeadline)] = [:]
    private var lastNumber: UInt64 = 0

    /// Records the start of a call, until ``end(_:)`` is called with the returned number.
    ///
    /// - Parameters:
    ///   - subject: The path of what the call reads.
    ///   - deadline: The time at which its caller gives up.
    mutating func begin(_ subject: String, until deadline: NIODeadline) -> UInt64 {
        lastNumber += 1
        calls[lastNumber] = (subject, deadline)
        return lastNumber
    }

    mutating func end(_ number: UInt64) { calls[number] = nil }

    /// Whether a call of the subject hangs, or ``PrefixWatch/hungLimit`` calls of its folder do.
    func hang(_ subject: String, now: NIODeadline) -> Bool {
        let hanging = calls.values.filter { $0.deadline <= now }.map(\.subject)
        let folder = Volume.folder(of: subject)
        return hanging.contains(subject)
            || hanging.count { Volume.folder(of: $0) == folder } >= PrefixWatch.hungLimit
    }
}
