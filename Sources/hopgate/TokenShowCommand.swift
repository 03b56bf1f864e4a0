import ArgumentParser
import Credentials
import Formats
import Gateway

struct TokenShowCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "show",
        abstract: "Show a token without its secrets."
    )

    @OptionGroup var options: ConfigurationOptions

    @Argument(help: ArgumentHelp("The token's id or name; a name shows all its tokens.", valueName: "id-or-name"))
    var token: String

    @Flag(help: "Print a JSON array.")
    var json = false

    func run() async throws {
        let context = try await CommandContext.open(try await options.load())
        defer { context.close() }
        let found = try await context.editor.find(token)
        if json {
            try Terminal.print(.array(found.map { .object($0.document) }))
        } else {
            try Terminal.print(found.map(Self.text).joined(separator: "\n\n"))
        }
    }

    private static func text(_ credential: Credential) -> String {
        let now = UnixTime.now()
        let secrets = credential.secrets.map { secret in
            guard let end = secret.notAfter else { return "current" }
            return secret.isAccepted(at: now)
                ? "replaced, accepted until \(end)" : "replaced, not accepted since \(end)"
        }
        let hosts = credential.hostsText(separator: ", ")
        let agents = credential.maxAgents.map { "\($0) on each gateway" } ?? "no limit"
        let rows: [[String]] = [
            ["id", credential.id],
            ["name", credential.name],
            ["state", credential.stateText],
            ["services", credential.servicesText(separator: ", ")],
            ["hosts", hosts.isEmpty ? "none" : hosts],
            ["max agents", agents],
            ["created", credential.created],
        ]
        return Terminal.table(rows + secrets.map { ["secret", $0] })
    }
}
