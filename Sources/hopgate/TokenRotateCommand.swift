import ArgumentParser
import Gateway

struct TokenRotateCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "rotate",
        abstract: "Give a token another secret and print it, once; the one before is accepted for a while.",
        discussion: """
            Move the agents to the new secret within the grace: when it is over, sessions of the one before are ended.
            --grace 0s ends them now.
            """
    )

    @OptionGroup var options: ConfigurationOptions

    @Argument(help: ArgumentHelp("The token's id, or its name if only one good token has it.", valueName: "id-or-name"))
    var token: String

    @Option(help: ArgumentHelp("How long the secret before is accepted (default 24h).", valueName: "duration"))
    var grace: String?

    @Option(
        help: ArgumentHelp(
            "Where agents reach the gateway, for the join string; may be repeated (default: tunnel_addresses).",
            valueName: "host[:port]"
        )
    )
    var gateway: [String] = []

    @Flag(help: "Print a JSON object instead of the bare token.")
    var json = false

    func run() async throws {
        let grace = try NewToken.grace(grace)
        let session = try await TokenSession.open(options)
        defer { session.close() }
        let enrolment = try await session.enrolment(gateway)
        let (issued, credential) = try await session.editor.rotate(token, grace: grace)
        let before = credential.secrets.dropFirst().first?.notAfter.map { "is accepted until \($0)" }
        let rest = "The secret before \(before ?? "is not accepted any more")."
        Terminal.note("Token \(issued.id) for \"\(credential.name)\" has a new secret. \(rest)")
        try NewToken.show(issued, credential, enrolment, json: json)
    }
}
