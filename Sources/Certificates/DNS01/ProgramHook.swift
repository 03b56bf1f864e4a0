package import ACME
package import NIOCore

/// A hook that runs a program, without a shell, as `PATH present|cleanup NAME VALUE`. NAME has no trailing dot. Exit
/// status 0 is success; the end of its output is part of the error otherwise.
///
/// The program gets an empty standard input, and the environment of this process without the variables `HOPGATE_…`,
/// some of which hold secrets. It runs in its own process group, which is killed at the deadline, when the calling task
/// is cancelled, and when the program has ended, so that no process that it starts outlives it.
package struct ProgramHook: DNSHook {
    /// The time for one run.
    package static let deadline = TimeAmount.seconds(60)

    private let path: String
    private let environment: [String]
    private let timeout: TimeAmount

    /// - Parameters:
    ///   - path: A path with a slash; `PATH` is not searched.
    ///   - environment: The environment of this process.
    package init(_ path: String, environment: [String: String], timeout: TimeAmount = deadline) {
        self.path = path
        self.environment = environment.filter { !$0.key.hasPrefix("HOPGATE_") }.map { "\($0.key)=\($0.value)" }.sorted()
        self.timeout = timeout
    }

    package func perform(_ action: HookAction, _ task: ChallengeTask) async throws(PresentationError) {
        let arguments = [action.rawValue, task.recordName, task.recordValue]
        let process = ProgramRun(path, arguments, environment: environment, deadline: .now() + timeout)
        let outcome = await withTaskCancellationHandler {
            await process.run()
        } onCancel: {
            process.cancel()
        }
        guard let reason = failureReason(outcome) else { return }
        throw PresentationError("the DNS hook \(path) \(action.rawValue) \(task.recordName) \(reason)")
    }

    /// Describes why a run failed, or returns `nil` if it succeeded.
    private func failureReason(_ outcome: ProgramRun.Outcome) -> String? {
        switch outcome {
        case .exited(0, _): nil
        case .exited(let status, let output): "ended with status \(status)\(Self.details(output))"
        case .killed(let signal, let output): "was ended by signal \(signal)\(Self.details(output))"
        case .timedOut(let output):
            "did not end within \(timeout.nanoseconds / 1_000_000) ms and was killed\(Self.details(output))"
        case .cancelled: "was killed, because the order was abandoned"
        case .notStarted(let reason): "could not be run: \(reason)"
        }
    }

    /// Returns the last lines of the output, joined into one.
    private static func details(_ output: [UInt8]) -> String {
        // The end is the most informative part, and messages are cut at 1,000 characters.
        let lines = output.suffix(700).split { $0 == 0x0a || $0 == 0x0d }
        let text = lines.map { UntrustedText.sanitised(String(decoding: $0, as: UTF8.self)) }.joined(separator: " / ")
        return text.isEmpty ? ", and wrote nothing" : "; it wrote: \(text)"
    }
}
