import Agent
import ArgumentParser

struct ConfigCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "config",
        abstract: "Look at the configuration.",
        subcommands: [ConfigCheckCommand.self]
    )
}

struct ConfigCheckCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "check",
        abstract: "Check the configuration as a start would, and print what every setting came to be and why."
    )

    @OptionGroup var options: AgentOptions

    func run() throws {
        print(
            try AgentConfiguration.check(
                file: options.config,
                environment: CommonOptions.environment,
                flags: options.flags
            )
        )
    }
}
