import Agent
import ArgumentParser
import Logging
import Observability
import Settings

struct RunCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "run",
        abstract: "Run the agent until SIGTERM (this is what happens without a command)."
    )

    @OptionGroup var options: AgentOptions

    func run() async throws {
        try await AgentProcess.run(try options.load())
    }
}

/// What both ways of running do with their configuration.
enum AgentProcess {
    static func run(_ configuration: AgentConfiguration) async throws {
        let output = LoggingSetup.bootstrap(
            level: configuration.logLevel,
            format: LogFormat(rawValue: configuration.logFormat.rawValue) ?? .auto
        )
        let metrics = MetricsRegistry(namespace: "hopagent")
        metrics.registerProcessMetrics(build: [("version", version)])
        output.register(in: metrics)
        let agent = Agent(configuration: configuration, log: Logger(label: "hopagent"), metrics: metrics)
        try await agent.runUntilSignalled()
    }
}
