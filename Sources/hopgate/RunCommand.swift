import ArgumentParser
import Gateway
import Observability
import Settings

struct RunCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "run",
        abstract: "Run the gateway until SIGTERM (this is what happens without a command)."
    )

    @OptionGroup var options: GatewayOptions

    func run() async throws {
        let configuration = try options.load()
        let output = LoggingSetup.bootstrap(
            level: configuration.logLevel,
            format: LogFormat(rawValue: configuration.logFormat.rawValue) ?? .auto
        )
        try await GatewayProcess.run(configuration, version: version, output: output)
    }
}
