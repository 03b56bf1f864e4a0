import ArgumentParser
import Gateway
import Observability
import Settings

struct RunCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "run",
        abstract: "Run the gateway until SIGTERM (the default command)."
    )

    @OptionGroup var options: GatewayOptions

    func run() async throws {
        let configuration = try await options.load()
        let output = LoggingSetup.bootstrap(level: configuration.logLevel, format: configuration.logFormat)
        try await GatewayProcess.run(configuration, version: version, output: output)
    }
}
