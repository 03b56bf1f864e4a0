import Agent
import ArgumentParser
import Logging
import Observability
import Settings

struct RunCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "run",
        abstract: "Run the agent until SIGTERM (the default command)."
    )

    @OptionGroup var options: AgentOptions

    func run() async throws {
        try await AgentProcess.run(try options.load())
    }
}

/// The process of an agent, which `run` and `http` share.
enum AgentProcess {
    /// Sets up logging and metrics, and runs the agent until a signal stops it.
    static func run(_ configuration: AgentConfiguration) async throws {
        let output = LoggingSetup.bootstrap(level: configuration.logLevel, format: configuration.logFormat)
        let metrics = MetricsRegistry(namespace: "hopagent")
        metrics.registerProcessMetrics(build: [("version", version)])
        output.register(in: metrics)
        let agent = Agent(configuration: configuration, log: Logger(label: "hopagent"), metrics: metrics)
        try await agent.runUntilSignalled()
    }
}
