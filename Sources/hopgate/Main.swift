import ArgumentParser
import CDescriptors
import Certificates
import Credentials
import DTLS
import Files
import Gateway
import Glibc
import Settings
import Store
import Threads

/// The entry point: runs a command and turns its errors into a message on standard error and an exit code.
@main
enum Main {
    /// Isolated to the main thread, because other threads may be unavailable before the first check.
    @MainActor
    static func main() async {
        // It has run before main(); this call keeps it in the binary.
        hop_open_standard_descriptors()
        DTLSContext.permitExitWhileInUse()
        // A reader that closes its pipe is an error of a write.
        signal(SIGPIPE, SIG_IGN)
        if let error = unknownCommand(
            in: CommandLine.arguments.dropFirst(),
            "hopgate",
            HopGate.self as any ParsableCommand.Type,
            children: { $0.configuration.subcommands.map { ($0.configuration.commandName ?? "", $0) } }
        ) {
            Terminal.error(error)
            exit(2)
        }
        var command: any ParsableCommand
        do {
            command = try HopGate.parseAsRoot()
        } catch {
            finish(error)
        }
        let usage = HopGate.usageString(for: type(of: command))
        do {
            if var asynchronous = command as? any AsyncParsableCommand {
                guard ThreadLimit.allows(4) else { throw Failure(ThreadLimit.message) }
                try await asynchronous.run()
            } else {
                try command.run()
            }
        } catch {
            finish(error, usage: usage)
        }
    }

    private static func printAndExit(_ text: String) -> Never {
        do {
            try Terminal.print(text)
            exit(0)
        } catch {
            finish(error)
        }
    }

    /// Reports an error and exits.
    ///
    /// - Parameter usage: The usage of the command that has failed. Empty if the arguments could not be parsed: that
    ///   error has its own.
    private static func finish(_ error: any Error, usage: String = "") -> Never {
        switch error {
        case let code as ExitCode: exit(code.rawValue)
        case let error as SettingsError:
            Terminal.error("the configuration cannot be used:\n\(error)")
            exit(2)
        case let error as CertificatesError:
            Terminal.error("a certificate cannot be used: \(error)")
            exit(error.isConfiguration ? 2 : 1)
        case let error as CredentialError:
            Terminal.error("\(error)")
            exit(error.code == .invalid || error.isOfArgument ? 2 : 1)
        case let error as StoreError:
            Terminal.error("\(error)")
            exit(error.code == .olderFormat || error.code == .wrongFile ? 2 : 1)
        case let error as AdminTokenError:
            Terminal.error("\(error)")
            exit(2)
        case let error as ValidationError:
            Terminal.error("Error: \(error.message)\nUsage: \(usage)", prefix: "")
            exit(2)
        case let error as Failure:
            Terminal.error(error.message)
            exit(1)
        default:
            // Errors of the parser: help and version go to standard output and succeed, the others are wrong usage.
            if HopGate.exitCode(for: error).isSuccess { printAndExit(HopGate.fullMessage(for: error)) }
            let isUsage = HopGate.exitCode(for: error) == .validationFailure
            let commands = HopGate.configuration.subcommands.compactMap { $0.configuration.commandName }
            let words = CommandLine.arguments.dropFirst()
            if isUsage, let problem = optionsBeforeCommand(in: words, "hopgate", commands: commands) {
                Terminal.error(problem)
                exit(2)
            }
            Terminal.error(isUsage ? HopGate.fullMessage(for: error) : "\(error)", prefix: isUsage ? "" : "hopgate: ")
            exit(isUsage ? 2 : 1)
        }
    }
}

/// The failure of a command, with what is wrong, where, and the remedy.
struct Failure: Error {
    let message: String

    init(_ message: String) {
        self.message = message
    }
}

extension CertificatesError {
    /// Whether the operator must correct files or folders. Otherwise the system failed.
    var isConfiguration: Bool {
        switch code {
        case .file(.system), .store, .issuance: false
        case .file, .malformed, .unsupported, .keyMismatch, .chainOrder, .missing: true
        }
    }
}
