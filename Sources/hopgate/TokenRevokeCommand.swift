import ArgumentParser
import Credentials
import Formats
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
        let context = try await CommandContext.open(try await options.load())
        defer { context.close() }
        let revoked = try await context.editor.revoke(token, all: all)
        if json { try Terminal.print(.array(revoked.map { .string($0) })) }
        for id in revoked { Terminal.info("Revoked token \(id).") }
        if revoked.isEmpty { Terminal.info("The token was revoked before.") }
    }
}
