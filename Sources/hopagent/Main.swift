import Agent
import ArgumentParser
import CDescriptors
import DTLS
import Glibc
import Settings
import Threads

/// Runs a command, and converts the error that it throws to a message on standard error and an exit code.
@main
enum Main {
    /// Isolated to the main thread, because other threads may be unavailable before the first check.
    @MainActor
    static func main() async {
        // It has run before main(); this call keeps it in the binary.
        hop_open_standard_descriptors()
        DTLSContext.permitExitWhileInUse()
        if let error = unknownCommand(
            in: CommandLine.arguments.dropFirst(),
            "hopagent",
            HopAgent.self as any ParsableCommand.Type,
            children: { $0.configuration.subcommands.map { ($0.configuration.commandName ?? "", $0) } }
        ) {
            Terminal.error(error)
            exit(2)
        }
        do {
            var command = try HopAgent.parseAsRoot()
            if var asynchronous = command as? any AsyncParsableCommand {
                guard ThreadLimit.allows(4) else { throw Failure(ThreadLimit.message) }
                try await asynchronous.run()
            } else {
                try command.run()
            }
        } catch {
            finish(error)
        }
    }

    private static func finish(_ error: any Error) -> Never {
        switch error {
        case let code as ExitCode: exit(code.rawValue)
        case let error as SettingsError:
            Terminal.error("the configuration cannot be used:\n\(error)")
            exit(2)
        case let error as AgentError:
            Terminal.error("\(error)")
            exit(1)
        case let error as Failure:
            Terminal.error(error.message)
            exit(1)
        default:
            // An error of the parser: help and version go to standard output and succeed, the rest is invalid usage.
            if HopAgent.exitCode(for: error).isSuccess { HopAgent.exit(withError: error) }
            let isUsage = HopAgent.exitCode(for: error) == .validationFailure
            let commands = HopAgent.configuration.subcommands.compactMap { $0.configuration.commandName }
            let words = CommandLine.arguments.dropFirst()
            if isUsage, let problem = optionsBeforeCommand(in: words, "hopagent", commands: commands) {
                Terminal.error(problem)
                exit(2)
            }
            Terminal.error(isUsage ? HopAgent.fullMessage(for: error) : "\(error)", prefix: isUsage ? "" : "hopagent: ")
            exit(isUsage ? 2 : 1)
        }
    }
}

/// The failure of a command. The message states what failed, where, and the remedy.
struct Failure: Error {
    let message: String

    init(_ message: String) {
        self.message = message
    }
}
