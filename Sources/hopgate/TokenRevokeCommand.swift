import ArgumentParser
import Gateway

struct TokenRevokeCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "revoke",
        abstract: "Revoke a token; running gateways end its sessions within seconds."
    )

    @OptionGroup var options: ConfigurationOptions

    @Argument(help: ArgumentHelp("The token's id or name.", valueName: "id-or-name"))
    var token: String

    @Flag(help: "Revoke every token of this name.")
    var all = false

    @Flag(help: "Print the revoked tokens as a JSON array.")
    var json = false

    func run() throws {
        let folder = CredentialFolder(dataDirectory: try options.load().store.path)
        let revoked = try folder.revoke(idOrName: token, all: all)
        if json { print(try TokenDescription.json(revoked.map { TokenDescription($0) })) }
        for credential in revoked { Terminal.note("Token \(credential.id) of \"\(credential.name)\" is revoked.") }
        if revoked.isEmpty { Terminal.note("It was revoked already.") }
    }
}
