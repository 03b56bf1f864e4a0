import Agent
import ArgumentParser
import Formats
import Settings

struct HTTPCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "http",
        abstract: "Offer one local HTTP service, without a configuration file.",
        discussion: """
            hopagent http 8080 --join hgj_… --host app.example.com
            hopagent http 8080 --gateway gateway.example.com --token hgt_… --host app.example.com

            Without --host, requests arrive through the gateway's own routes to this token's name and service.
            """
    )

    @Argument(help: ArgumentHelp("The address that the service listens on: PORT or HOST:PORT.", valueName: "target"))
    var target: String

    @Option(help: ArgumentHelp("The name of the service.", valueName: "name"))
    var service = "http"

    @OptionGroup var common: CommonOptions

    func run() async throws {
        // The characters that separate the services of a flag.
        guard !target.contains(where: { $0 == "," || $0.isWhitespace }) else {
            let remedy = "Write a port or HOST:PORT, as in 8080 or 127.0.0.1:8080."
            throw ValidationError("TARGET: \(quoted(target)) is not one address. \(remedy)")
        }
        var flags = common.flags
        flags["service"] = "\(service)=\(target)"
        let configuration: AgentConfiguration
        do throws(SettingsError) {
            configuration = try AgentConfiguration.load(
                file: nil,
                environment: CommonOptions.environment,
                flags: flags
            )
        } catch {
            throw namingTarget(error)
        }
        try await AgentProcess.run(configuration)
    }

    /// Returns the error with the argument in place of the flag that it was combined into. If the name of the service
    /// is valid, the problem is the target.
    private func namingTarget(_ error: SettingsError) -> SettingsError {
        guard (try? Scalars.name(service)) != nil else { return error }
        var error = error
        for index in error.problems.indices where error.problems[index].origin == .flag(name: "--service") {
            error.problems[index].origin = .flag(name: "TARGET")
            error.problems[index].key = ""
        }
        return error
    }
}
