import ArgumentParser
import Gateway

struct TokenCreateCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "create",
        abstract: "Make a token for agents and print it, once.",
        discussion: "The token alone goes to standard output. Only its hash is kept: it cannot be shown again."
    )

    @OptionGroup var options: ConfigurationOptions

    @Argument(help: ArgumentHelp("What routes call its agents: 1 to 63 of a-z, 0-9 and \"-\".", valueName: "name"))
    var name: String

    @Option(
        help: ArgumentHelp(
            "A service that it may offer: a name, a beginning such as web-*, or * (the default). May be repeated.",
            valueName: "pattern"
        )
    )
    var service: [String] = []

    @Option(
        help: ArgumentHelp(
            "A host that it may serve: a name or *.name (none by default). May be repeated.",
            valueName: "pattern"
        )
    )
    var host: [String] = []

    @Flag(help: "Print a JSON object instead of the bare token.")
    var json = false

    func run() throws {
        let folder = CredentialFolder(dataDirectory: try options.load().store.path)
        let others = try folder.list().credentials.filter { $0.name == name && !$0.isRevoked }
        let (token, credential) = try folder.create(
            name: name,
            services: service.isEmpty ? ["*"] : service,
            hosts: host
        )
        print(json ? try TokenDescription.json(TokenDescription(credential, token: token)) : token.text)
        let services = credential.services.map(\.description).joined(separator: ", ")
        let hosts = credential.hosts.map(\.description).joined(separator: ", ")
        Terminal.note(
            "Token \(token.id) for \"\(name)\": services \(services); hosts \(hosts.isEmpty ? "none" : hosts)."
        )
        Terminal.note("It is shown only this once. Kept as a hash in \(folder.path)/\(token.id).json.")
        if !others.isEmpty {
            let ids = others.map(\.id).joined(separator: ", ")
            Terminal.note("Other good tokens of this name: \(ids). Revoke those that are no longer used.")
        }
    }
}
