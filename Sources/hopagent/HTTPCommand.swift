import Agent
import ArgumentParser

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
        var flags = common.flags
        flags["service"] = "\(service)=\(target)"
        let configuration = try AgentConfiguration.load(
            file: nil,
            environment: CommonOptions.environment,
            flags: flags
        )
        try await AgentProcess.run(configuration)
    }
}
