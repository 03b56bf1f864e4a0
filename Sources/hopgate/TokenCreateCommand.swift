import ArgumentParser
import Cluster
import Gateway

struct TokenCreateCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "create",
        abstract: "Make a token for agents and print it, once, with the command that enrols one.",
        discussion: """
            The token alone goes to standard output. Only its hash is kept: it cannot be shown again.
            With --join-file nothing secret is printed: an agent that is given the same file joins by it.
            With --if-absent it can be run any number of times: it makes what is missing, and nothing else.
            """
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

    @Option(help: ArgumentHelp("Agents that each gateway lets in with it at a time.", valueName: "count"))
    var maxAgents: Int?

    @Flag(help: "Succeed, and print nothing, when a good token of this name is there.")
    var ifAbsent = false

    @Option(
        help: ArgumentHelp(
            "Write the join string there (mode 0600). With --if-absent: unless one that is good stands there.",
            valueName: "file"
        )
    )
    var joinFile: String?

    @Option(help: ArgumentHelp("With --if-absent: how long a secret that is replaced still counts.", valueName: "24h"))
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
        let session = try await TokenSession.open(options, founding: true)
        defer { session.close() }
        let enrolment = try await session.enrolment(gateway)
        let editor = session.editor
        let enroller = try Enroller(
            editor: editor,
            store: session.shared.store,
            enrolment: enrolment,
            file: joinFile.map { JoinFile(path: $0) }
        )
        let request = Enroller.Request(
            name: name,
            services: service.isEmpty ? ["*"] : service,
            hosts: host,
            maxAgents: maxAgents
        )
        let outcome = try await ifAbsent ? enroller.ensure(request, grace: grace) : enroller.create(request)
        switch outcome {
        case .made(let token, let credential):
            Terminal.note("Token \(token.id) for \"\(name)\": \(NewToken.summary(credential)).")
            try show(token, credential, enrolment)
            try await noteOthers(editor, but: token.id)
        case .renewed(let token, let credential):
            Terminal.note("Token \(token.id) for \"\(name)\" has a new secret, because the file had none that is good.")
            try show(token, credential, enrolment)
        case .rewritten(let credential):
            Terminal.note("\(joinFile ?? "") names the gateway's present addresses now, with token \(credential.id).")
        case .kept(let credential):
            Terminal.note("Token \(credential.id) for \"\(name)\" is there: \(NewToken.summary(credential)).")
        }
    }

    private func show(_ token: IssuedToken, _ credential: Credential, _ enrolment: Enrolment) throws {
        guard let joinFile else { return try NewToken.show(token, credential, enrolment, json: json) }
        if json { print(try TokenDescription.json(TokenDescription(credential))) }
        let command = Enrolment.command(for: credential, join: "--join-file \(joinFile)")
        Terminal.note("The join string is in \(joinFile). An agent that can read it joins with:\n\n    \(command)\n")
        for note in enrolment.notes { Terminal.note(note) }
    }

    private func noteOthers(_ editor: CredentialEditor, but id: String) async throws {
        let others = try await editor.list().credentials.filter { $0.name == name && !$0.isRevoked && $0.id != id }
        guard !others.isEmpty else { return }
        let ids = others.map(\.id).joined(separator: ", ")
        Terminal.note("Other good tokens of this name: \(ids). Revoke those that are no longer used.")
    }
}
