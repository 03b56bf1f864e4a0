import ArgumentParser
import Credentials
import Gateway

struct TokenRotateCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "rotate",
        abstract: "Give a token a new secret and print it, once; the previous one is accepted for a while.",
        discussion: """
            Move the agents to the new secret within the grace period: after it, sessions with the previous one are \
            closed.
            --grace 0s closes them at once.
            """
    )

    @OptionGroup var options: ConfigurationOptions

    @Argument(
        help: ArgumentHelp("The token's id, or its name if only one valid token has it.", valueName: "id-or-name")
    )
    var token: String

    @Option(help: ArgumentHelp("How long the previous secret is accepted (default 24h).", valueName: "duration"))
    var grace: String?

    @Option(
        help: ArgumentHelp(
            "An address of the gateway for the join string (default: tunnel_addresses). May be repeated.",
            valueName: "host[:port]"
        )
    )
    var gateway: [String] = []

    @Flag(help: "Print a JSON object instead of the bare token.")
    var json = false

    func run() async throws {
        let grace = try TokenOutput.grace(grace)
        let context = try await CommandContext.open(try await options.load())
        defer { context.close() }
        let enrolment = try await context.enrolment(gateway)
        let (issued, credential) = try await context.editor.rotate(token, grace: grace)
        let before = credential.secrets.dropFirst().first?.notAfter.map { "is accepted until \($0)" }
        let rest = "The previous secret \(before ?? "is no longer accepted")."
        Terminal.info("Token \(issued.id) for \"\(credential.name)\" has a new secret. \(rest)")
        do {
            try TokenOutput.show(issued, credential, enrolment, store: context.storePath, json: json)
        } catch let failure as Failure {
            throw Failure("\(failure.message); rotate the token again: hopgate token rotate \(issued.id)")
        }
    }
}
