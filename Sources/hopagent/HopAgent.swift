import ArgumentParser

/// The agent: dials gateways and serves what they send from local services.
struct HopAgent: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "hopagent",
        abstract: "Offers local HTTP services through a gateway that it dials.",
        discussion: """
            Settings come from flags, then HOPAGENT_… variables, then the configuration file.
            Exit codes: 0 fine, 1 failure, 2 wrong usage or configuration.
            """,
        version: version,
        subcommands: [
            RunCommand.self, HTTPCommand.self, ConfigCommand.self, HealthcheckCommand.self, VersionCommand.self,
        ],
        defaultSubcommand: RunCommand.self
    )
}
