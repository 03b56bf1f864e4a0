import Agent
import ArgumentParser

struct ConfigCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "config",
        abstract: "Inspect the configuration.",
        subcommands: [ConfigCheckCommand.self]
    )
}

struct ConfigCheckCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "check",
        abstract: "Check the configuration as at start, and print every setting with its value and source."
    )

    @OptionGroup var options: AgentOptions

    func run() throws {
        // A start reads the CA file, too.
        try Agent.requireUsableTrust(try options.load().trust)
        print(
            try AgentConfiguration.check(
                file: options.config,
                environment: CommonOptions.environment,
                flags: options.flags
            )
        )
    }
}
