import ArgumentParser
import Certificates
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
        // A start loads the certificates and keys too, so a key that does not match its certificate is reported here.
        for files in configuration.certificates {
            let certificate = try files.load()
            try certificate.require(TLSIdentities.check)
        }
        try Terminal.print(
            try GatewayConfiguration.check(
                file: options.configuration.config,
                environment: ConfigurationOptions.environment,
                flags: options.flags
            )
        )
    }
}
