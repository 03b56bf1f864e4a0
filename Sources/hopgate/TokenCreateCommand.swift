import ArgumentParser
import Credentials
import Formats
import Gateway

struct TokenCreateCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "create",
        abstract: "Create a token for agents and print it, once, with the command that enrols an agent.",
        discussion: """
            Only the token goes to standard output. The store keeps its hash alone: it cannot be shown again.
            With --join-file no secret is printed: an agent that is given the same file joins with it. A file with \
            other contents, or with the join string of another valid token, is refused. With \
            --if-absent a join file keeps its addresses, unless --gateway names others.
            With --if-absent the command can be repeated: it creates what is missing, and nothing else. It warns if the \
            token that exists differs from the options.
            """
    )

    @OptionGroup var options: ConfigurationOptions

    @Argument(help: ArgumentHelp("The name of its agents in routes: 1 to 63 of a-z, 0-9 and \"-\".", valueName: "name"))
    var name: String

    @Option(
        help: ArgumentHelp(
            "A service that its agents may offer: a name, a prefix such as web-*, or * (the default). May be repeated.",
            valueName: "pattern"
        )
    )
    var service: [String] = []

    @Option(
        help: ArgumentHelp(
            "A host that its agents may serve: a name or *.name (none by default). May be repeated.",
            valueName: "pattern"
        )
    )
    var host: [String] = []

    @Option(help: ArgumentHelp("The maximum number of agents attached to each gateway with it.", valueName: "count"))
    var maxAgents: Int?

    @Flag(help: "Succeed, and print nothing secret, if a valid token of this name exists.")
    var ifAbsent = false

    @Option(
        help: ArgumentHelp(
            "Write the join string to this file (mode 0600). With --if-absent: unless it holds a valid one.",
            valueName: "file"
        )
    )
    var joinFile: String?

    @Option(help: ArgumentHelp("With --if-absent: how long a replaced secret is still accepted.", valueName: "24h"))
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
        let configuration = try await options.load()
        let file = joinFile.map { JoinFile(path: $0) }
        // Before a cluster is founded.
        try file?.requireReplaceable()
        let context = try await CommandContext.open(configuration, isFounding: true)
        defer { context.close() }
        let enrolment = try await context.enrolment(gateway, keeping: ifAbsent ? file : nil)
        let editor = context.editor
        let enroller = try Enroller(
            editor: editor,
            store: context.store,
            enrolment: enrolment,
            file: file,
            onWait: Terminal.reportWait
        )
        let request = Enroller.Request(
            name: name,
            services: service.isEmpty ? ["*"] : service,
            hosts: host,
            maxAgents: maxAgents
        )
        let outcome = try await ifAbsent ? enroller.ensure(request, grace: grace) : enroller.create(request)
        switch outcome {
        case .created(let token, let credential):
            Terminal.info("Token \(token.id) for \"\(name)\": \(TokenOutput.summary(credential)).")
            do {
                try show(token, credential, enrolment, context)
            } catch let failure as Failure where joinFile == nil {
                throw await revoked(token, after: failure, editor)
            }
            try await reportOthers(editor, except: token.id)
        case .renewed(let token, let credential, let wasReplaced):
            reportDifferences(request, credential)
            let reason = wasReplaced ? "that of the file was replaced" : "the file had no valid one"
            Terminal.info("Token \(token.id) for \"\(name)\" has a new secret, because \(reason).")
            try show(token, credential, enrolment, context)
        case .rewritten(let credential, let changes):
            reportDifferences(request, credential)
            let present = changes.map { "present \($0)" }.joined(separator: " and ")
            Terminal.info("\(joinFile ?? "") now has the gateway's \(present), with token \(credential.id).")
            for note in enrolment.notes { Terminal.info(note) }
        case .kept(let credential):
            reportDifferences(request, credential)
            Terminal.info("Token \(credential.id) for \"\(name)\" exists: \(TokenOutput.summary(credential)).")
            if let note = file?.restrict() { Terminal.info(note) }
        }
    }

    private func show(
        _ token: IssuedToken,
        _ credential: Credential,
        _ enrolment: Enrolment,
        _ context: CommandContext
    ) throws {
        let store = context.storePath
        guard let joinFile else { return try TokenOutput.show(token, credential, enrolment, store: store, json: json) }
        if json { try Terminal.print(credential.document.merging(["store": .string(store)]) { $1 }) }
        let command = Enrolment.command(for: credential, join: ["--join-file", joinFile])
        Terminal.info("The join string is in \(joinFile). An agent that can read it joins with:\n\n    \(command)\n")
        for note in enrolment.notes { Terminal.info(note) }
    }

    /// Revokes a token that could not be printed.
    private func revoked(_ token: IssuedToken, after failure: Failure, _ editor: CredentialEditor) async -> Failure {
        do {
            _ = try await editor.revoke(token.id)
            return Failure("\(failure.message); token \(token.id) was revoked, because its secret is lost")
        } catch {
            return Failure("\(failure.message); revoke the token: hopgate token revoke \(token.id) (\(error))")
        }
    }

    /// Reports options that do not apply, because a token exists. Without any, nothing more than a token was asked for.
    private func reportDifferences(_ request: Enroller.Request, _ credential: Credential) {
        guard !service.isEmpty || !host.isEmpty || maxAgents != nil else { return }
        let differences = request.differences(from: credential)
        guard !differences.isEmpty else { return }
        Terminal.info(
            """
            Warning: token \(credential.id) differs from the options: \(differences.joined(separator: "; ")).
            It stays as it is: no command changes these. To replace the token, which closes its sessions, run \
            "hopgate token revoke \(credential.id)", then this command again.
            """
        )
    }

    private func reportOthers(_ editor: CredentialEditor, except id: String) async throws {
        let others = try await editor.list().credentials.filter { $0.name == name && !$0.isRevoked && $0.id != id }
        guard !others.isEmpty else { return }
        let ids = others.map(\.id).joined(separator: ", ")
        Terminal.info("Other valid tokens of this name: \(ids). Revoke those that are no longer used.")
    }
}
