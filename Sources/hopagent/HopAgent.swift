import ArgumentParser

/// The root command of the agent, which offers local services through gateways.
struct HopAgent: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "hopagent",
        abstract: "Offers local HTTP services through a gateway that it attaches to.",
        discussion: """
            Settings come from flags, then HOPAGENT_… variables, then the configuration file.
            Exit codes: 0 success, 1 failure, 2 invalid usage or configuration.
            """,
        version: version,
        subcommands: [
            RunCommand.self, HTTPCommand.self, ConfigCommand.self, HealthcheckCommand.self, VersionCommand.self,
        ],
        defaultSubcommand: RunCommand.self
    )
}
