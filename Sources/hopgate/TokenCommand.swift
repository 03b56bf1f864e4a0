import ArgumentParser
import Credentials
import Formats
import Gateway
import Settings

struct TokenCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "token",
        abstract: "Create, list, rotate and revoke the tokens of agents.",
        discussion: "Every running gateway on the same store applies a change within seconds.",
        subcommands: [
            TokenCreateCommand.self, TokenListCommand.self, TokenShowCommand.self, TokenRotateCommand.self,
            TokenRevokeCommand.self,
        ]
    )
}

/// Texts for the output of commands.
extension Credential {
    var stateText: String { revoked.map { "revoked \($0)" } ?? "good" }

    func servicesText(separator: String) -> String {
        services.map(\.description).joined(separator: separator)
    }

    func hostsText(separator: String) -> String {
        hosts.map(\.description).joined(separator: separator)
    }

    /// The token in the form that `--json` prints, without secrets.
    var document: [String: JSONValue] {
        var fields: [String: JSONValue] = [
            "id": .string(id), "name": .string(name), "created": .string(created),
            "services": .array(services.map { .string($0.description) }),
            "hosts": .array(hosts.map { .string($0.description) }),
            "secrets": .array(
                secrets.map { secret in
                    .object(secret.notAfter.map { ["not_after": .string($0.description)] } ?? [:])
                }
            ),
        ]
        fields["max_agents"] = maxAgents.map { .integer(Int64($0)) }
        fields["revoked"] = revoked.map { .string($0) }
        return fields
    }
}

extension CommandContext {
    var editor: CredentialEditor { CredentialEditor(store: store, keyring: keyring) }

    /// Creates the enrolment data for join strings.
    ///
    /// - Parameters:
    ///   - gateways: The values of `--gateway`.
    ///   - file: The join file whose addresses are kept unless others are given.
    func enrolment(_ gateways: [String], keeping file: JoinFile? = nil) async throws -> Enrolment {
        let port = configuration.dtlsListen.port
        let addresses = try gateways.map { text in
            do throws(FormatError) {
                return try HostPort.parse(text, defaultPort: port == 0 ? nil : port)
            } catch {
                throw ValidationError("--gateway: \(error.what). \(error.remedy)")
            }
        }
        return try await Enrolment(
            configuration,
            gateways: addresses,
            keeping: try file?.gateways ?? [],
            store: certificates,
            check: TLSIdentities.check
        )
    }
}

/// The output for a new secret: the token on standard output, and its use on standard error.
enum TokenOutput {
    /// - Throws: A failure if the token or the join string was not written completely.
    static func show(
        _ token: IssuedToken,
        _ credential: Credential,
        _ enrolment: Enrolment,
        store: String,
        json: Bool
    ) throws {
        let join = enrolment.joinString(for: token)
        let command = join.map { Enrolment.command(for: credential, join: ["--join", $0]) }
        if json {
            var fields = credential.document
            fields["store"] = .string(store)
            fields["token"] = .string(token.text)
            fields["join"] = join.map { .string($0) }
            fields["command"] = command.map { .string($0) }
            try Terminal.print(fields)
        } else {
            try Terminal.print(token.text)
        }
        if let command {
            try Terminal.require(info: "Enrol an agent (3000 is the port of its service):\n\n    \(command)\n")
        }
        Terminal.info("Token and join string are shown only once; the store keeps a hash of the secret.")
        for note in enrolment.notes { Terminal.info(note) }
    }

    /// The scope of a token on one line.
    static func summary(_ credential: Credential) -> String {
        let hosts = credential.hostsText(separator: ", ")
        let services = credential.servicesText(separator: ", ")
        let limit = credential.maxAgents.map { "; at most \($0) agent\($0 == 1 ? "" : "s") on each gateway" } ?? ""
        return "services \(services); hosts \(hosts.isEmpty ? "none" : hosts)\(limit)"
    }

    /// Parses the value of `--grace`, such as `24h`.
    static func grace(_ text: String?) throws -> Duration {
        guard let text else { return CredentialEditor.grace }
        do throws(FormatError) {
            return try Scalars.duration(text, in: CredentialEditor.graceRange)
        } catch {
            throw ValidationError("--grace: \(error.what). \(error.remedy)")
        }
    }
}
