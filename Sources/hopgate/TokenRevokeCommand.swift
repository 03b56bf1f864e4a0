import ArgumentParser
import Gateway

struct TokenRevokeCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "revoke",
        abstract: "Revoke a token; running gateways end its sessions within seconds."
    )

    @OptionGroup var options: ConfigurationOptions

    @Argument(help: ArgumentHelp("The token's id or name.", valueName: "id-or-name"))
    var token: String

    @Flag(help: "Revoke every token of this name.")
    var all = false

    @Flag(help: "Print the ids of the revoked tokens as a JSON array.")
    var json = false

    func run() async throws {
        let session = try await TokenSession.open(options)
        defer { session.close() }
        let revoked = try await session.editor.revoke(token, all: all)
        if json { print(try TokenDescription.json(revoked)) }
        for id in revoked { Terminal.note("Token \(id) is revoked.") }
        if revoked.isEmpty { Terminal.note("It was revoked already.") }
    }
}
