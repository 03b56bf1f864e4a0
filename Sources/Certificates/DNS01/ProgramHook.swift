package import ACME
package import NIOCore

/// A program that changes the DNS: it is run, without a shell, as `PATH present|cleanup NAME VALUE`. NAME has no final
/// dot. Exit status 0 is success; what it writes last is shown when it fails.
///
/// It gets an empty standard input and this process's environment, but for the variables `HOPGATE_…`, some of which
/// hold secrets. It has a process group of its own, which is killed at the deadline, when the calling task is
/// cancelled, and when the program has ended: nothing that it starts outlives it.
package struct ProgramHook: DNSHook {
    /// Time for one run.
    package static let deadline = TimeAmount.seconds(60)

    private let path: String
    private let environment: [String]
    private let timeout: TimeAmount

    /// - Parameters:
    ///   - path: with a slash in it; `PATH` is not searched.
    ///   - environment: this process's.
    package init(_ path: String, environment: [String: String], timeout: TimeAmount = deadline) {
        self.path = path
        self.environment = environment.filter { !$0.key.hasPrefix("HOPGATE_") }.map { "\($0.key)=\($0.value)" }.sorted()
        self.timeout = timeout
    }

    package func present(_ task: ChallengeTask) async throws(PresentationError) {
        try await run(.present, task)
    }

    package func cleanUp(_ task: ChallengeTask) async throws(PresentationError) {
        try await run(.cleanUp, task)
    }

    private func run(_ action: HookAction, _ task: ChallengeTask) async throws(PresentationError) {
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

    /// Nil: it was successful.
    private func failureReason(_ outcome: ProgramRun.Outcome) -> String? {
        switch outcome {
        case .exited(0, _): nil
        case .exited(let status, let output): "ended with status \(status)\(Self.details(output))"
        case .killed(let signal, let output): "was ended by signal \(signal)\(Self.details(output))"
        case .timedOut(let output):
            "did not end within \(timeout.nanoseconds / 1_000_000) ms and was killed\(Self.details(output))"
        case .cancelled: "was killed, because what it was for is given up"
        case .notStarted(let reason): "could not be run: \(reason)"
        }
    }

    /// Its last lines, one behind the other.
    private static func details(_ output: [UInt8]) -> String {
        // The end says most, and whoever shows the message cuts it at 1,000 characters.
        let lines = output.suffix(700).split { $0 == 0x0a || $0 == 0x0d }
        let text = lines.map { UntrustedText.sanitised(String(decoding: $0, as: UTF8.self)) }.joined(separator: " / ")
        return text.isEmpty ? ", and wrote nothing" : "; it wrote: \(text)"
    }
}
