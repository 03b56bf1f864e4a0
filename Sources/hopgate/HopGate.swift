import ArgumentParser

/// The root command: the gateway and the operator's tools in one binary.
struct HopGate: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "hopgate",
        abstract: "A gateway that carries HTTP to services behind agents, through DTLS tunnels.",
        discussion: """
            Settings come from flags, then HOPGATE_… variables, then the configuration file.
            Exit codes: 0 success, 1 failure, 2 invalid usage or configuration.
            """,
        version: version,
        subcommands: [
            RunCommand.self, ConfigCommand.self, TokenCommand.self, CertificateCommand.self, AuthorityCommand.self,
            ACMECommand.self,
            StatusCommand.self, DrainCommand.self, ClusterCommand.self, StoreCommand.self, BackupCommand.self,
            RestoreCommand.self,
            HealthcheckCommand.self, VersionCommand.self,
        ],
        defaultSubcommand: RunCommand.self
    )
}
