import Glibc
import NIOCore
import Outbound
import Synchronization
import Threads

/// One run of a program, on a dedicated thread.
final class ProgramRun: Sendable {
    enum Outcome: Equatable, Sendable {
        case exited(Int32, output: [UInt8])
        /// The program was killed by a signal that this process did not send.
        case killed(Int32, output: [UInt8])
        case timedOut(output: [UInt8])
        case cancelled
        case notStarted(String)
    }

    /// The number of bytes of the output that are kept, from its end.
    static let outputLimit = 2_048
    /// The longest pause between two checks whether the program has ended, in milliseconds. Its output wakes the thread
    /// as well. (A process descriptor would report the end, but Swift's Glibc has no call for it.)
    private static let pause: Int32 = 20

    private let path: String
    private let arguments: [String]
    private let environment: [String]
    private let deadline: NIODeadline
    private let state = Mutex(State())

    private struct State {
        var continuation: CheckedContinuation<Outcome, Never>?
        var isCancelled = false
    }

    init(_ path: String, _ arguments: [String], environment: [String], deadline: NIODeadline) {
        self.path = path
        self.arguments = arguments
        self.environment = environment
        self.deadline = deadline
    }

    /// Runs the program to its end. Called once.
    func run() async -> Outcome {
        await withCheckedContinuation { continuation in
            state.withLock { $0.continuation = continuation }
            let isStarted = startThread("dns-hook") { self.execute() }
            if !isStarted {
                finish(.notStarted(ThreadLimit.message))
            }
        }
    }

    /// Requests to kill the program, after which ``run()`` returns soon. Has no effect once it has ended.
    func cancel() {
        state.withLock { $0.isCancelled = true }
    }

    private var isCancelled: Bool { state.withLock { $0.isCancelled } }

    private func finish(_ outcome: Outcome) {
        let continuation = state.withLock { state in
            defer { state.continuation = nil }
            return state.continuation
        }
        continuation?.resume(returning: outcome)
    }

    // MARK: On the thread

    private func execute() {
        guard !isCancelled else { return finish(.cancelled) }
        let program: SpawnedProgram
        do {
            program = try SpawnedProgram(path, arguments, environment: environment)
        } catch {
            return finish(.notStarted(error.reason))
        }
        var output = OutputTail(limit: Self.outputLimit)
        var end: Outcome?
        while end == nil, !program.hasEnded {
            if isCancelled {
                end = .cancelled
            } else if NIODeadline.now() >= deadline {
                end = .timedOut(output: [])
            } else {
                program.read(into: &output, wait: Self.pause)
            }
        }
        // Also the processes that it has started; and before it is reaped, while its process ID cannot be reused.
        program.killGroup()
        program.read(into: &output, wait: 0)
        if case .timedOut = end { end = .timedOut(output: output.bytes) }
        // A process that is blocked in the kernel dies late. Only this thread waits for it.
        if let end { finish(end) }
        let status = program.reap()
        // The low seven bits are the signal (wait(2)); if there is none, the next eight are the status.
        let signal = status & 0x7f
        finish(
            signal == 0
                ? .exited(status >> 8 & 0xff, output: output.bytes) : .killed(signal, output: output.bytes)
        )
    }
}

/// The last bytes of an output of any length.
struct OutputTail {
    let limit: Int
    private(set) var bytes: [UInt8] = []

    mutating func append(_ more: some Collection<UInt8>) {
        bytes.append(contentsOf: more.suffix(limit))
        if bytes.count > limit { bytes.removeFirst(bytes.count - limit) }
    }
}
