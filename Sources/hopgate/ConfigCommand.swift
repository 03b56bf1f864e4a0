import ArgumentParser
import Gateway

struct ConfigCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "config",
        abstract: "Inspect the configuration.",
        subcommands: [ConfigCheckCommand.self]
    )
}

struct ConfigCheckCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "check",
        abstract: "Check the configuration as a start would, and print every setting's value and origin."
    )

    @OptionGroup var options: GatewayOptions

    func run() async throws {
        let configuration = try await options.load()
        try await configuration.requireUsableSecrets()
        if let warning = configuration.openAdminWarning { Terminal.info("Warning: \(warning).") }
        try Terminal.print(
            try GatewayConfiguration.check(
                file: options.configuration.config,
                environment: ConfigurationOptions.environment,
                flags: options.flags
            )
        )
    }
}
