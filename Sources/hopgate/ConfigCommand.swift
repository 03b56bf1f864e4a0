import ArgumentParser
import Certificates
import Gateway

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

    @OptionGroup var options: GatewayOptions

    func run() throws {
        let configuration = try options.load()
        // A start reads the pairs too: a key that does not fit its certificate is found here first.
        for files in configuration.certificates {
            let certificate = try files.load()
            try certificate.require(TLSIdentities.check)
        }
        print(
            try GatewayConfiguration.check(
                file: options.configuration.config,
                environment: ConfigurationOptions.environment,
                flags: options.flags
            )
        )
    }
}
