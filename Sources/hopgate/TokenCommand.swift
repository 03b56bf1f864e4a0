import ArgumentParser
import Cluster
import Credentials
import Formats
import FoundationEssentials
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

/// A token in the form that `--json` prints. `token`, `join` and `command` are set only for a new secret.
struct TokenDescription: Encodable {
    struct Secret: Encodable {
        var notAfter: String?

        enum CodingKeys: String, CodingKey {
            case notAfter = "not_after"
        }
    }

    enum CodingKeys: String, CodingKey {
        case store, id, name, services, hosts, created, revoked, secrets, token, join, command
        case maxAgents = "max_agents"
    }

    /// The folder of the store, for output that is a single object.
    var store: String?
    var id: String
    var name: String
    var services: [String]
    var hosts: [String]
    var maxAgents: Int?
    var created: String
    var revoked: String?
    var secrets: [Secret]
    var token: String?
    var join: String?
    /// The command that enrols an agent.
    var command: String?

    init(_ credential: Credential, store: String? = nil) {
        self.store = store
        id = credential.id
        name = credential.name
        services = credential.services.map(\.description)
        hosts = credential.hosts.map(\.description)
        maxAgents = credential.maxAgents
        created = credential.created
        revoked = credential.revoked
        secrets = credential.secrets.map { Secret(notAfter: $0.notAfter?.description) }
    }

    init(_ credential: Credential, store: String, token: IssuedToken, enrolment: Enrolment) {
        self.init(credential, store: store)
        self.token = token.text
        join = enrolment.joinString(for: token)
        command = join.map { Enrolment.command(for: credential, join: "--join \($0)") }
    }

    static func json(_ value: some Encodable) throws -> String {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
        return String(decoding: try encoder.encode(value), as: UTF8.self)
    }
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
}

/// The configuration and the opened store of a `token` command.
struct TokenCommandContext {
    let configuration: GatewayConfiguration
    let shared: SharedStore

    /// Loads the configuration and opens the store.
    ///
    /// - Parameter creatingCluster: Whether an empty folder that the operator has named becomes a new cluster. `false`
    ///   for commands that only read.
    static func open(
        _ options: ConfigurationOptions,
        creatingCluster: Bool = false
    ) async throws -> TokenCommandContext {
        let configuration = try options.load()
        let shared = try await CommandStore.open(configuration, isFounding: creatingCluster).shared
        return TokenCommandContext(configuration: configuration, shared: shared)
    }

    var editor: CredentialEditor { CredentialEditor(store: shared.store, keyring: shared.keyring) }

    /// Creates the enrolment data for join strings.
    ///
    /// - Parameter gateways: The values of `--gateway`.
    func enrolment(_ gateways: [String]) async throws -> Enrolment {
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
            store: shared.certificates,
            check: TLSIdentities.check
        )
    }

    func close() { shared.close() }
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
        let description = TokenDescription(credential, store: store, token: token, enrolment: enrolment)
        try Terminal.print(json ? try TokenDescription.json(description) : token.text)
        if let command = description.command {
            try Terminal.require(info: "Enrol an agent (3000 is the port of its service):\n\n    \(command)\n")
        }
        Terminal.info("Token and join string are shown only once; the store keeps a hash of the secret.")
        for note in enrolment.notes { Terminal.info(note) }
    }

    /// The scope of a token on one line.
    static func summary(_ credential: Credential) -> String {
        let hosts = credential.hostsText(separator: ", ")
        let services = credential.servicesText(separator: ", ")
        let limit = credential.maxAgents.map { "; at most \($0) agents on each gateway" } ?? ""
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
