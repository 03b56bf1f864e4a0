import ArgumentParser
import Cluster
import FoundationEssentials
import Gateway
import Settings

struct TokenCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "token",
        abstract: "Make, list, rotate and revoke the tokens of agents.",
        discussion: "Every running gateway on the same store sees a change within seconds.",
        subcommands: [
            TokenCreateCommand.self, TokenListCommand.self, TokenShowCommand.self, TokenRotateCommand.self,
            TokenRevokeCommand.self,
        ]
    )
}

/// A token as `--json` shows it. The secret part is there only when it was just made.
struct TokenDescription: Encodable {
    struct Secret: Encodable {
        var notAfter: String?

        enum CodingKeys: String, CodingKey {
            case notAfter = "not_after"
        }
    }

    enum CodingKeys: String, CodingKey {
        case id, name, services, hosts, created, revoked, secrets, token, join, command
        case maxAgents = "max_agents"
    }

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
    /// What enrols an agent.
    var command: String?

    init(_ credential: Credential) {
        id = credential.id
        name = credential.name
        services = credential.services.map(\.description)
        hosts = credential.hosts.map(\.description)
        maxAgents = credential.maxAgents
        created = credential.created
        revoked = credential.revoked
        secrets = credential.secrets.map { Secret(notAfter: $0.notAfter?.description) }
    }

    init(_ credential: Credential, token: IssuedToken, enrolment: Enrolment) {
        self.init(credential)
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

/// As commands show it.
extension Credential {
    var stateText: String { revoked.map { "revoked \($0)" } ?? "good" }

    func servicesText(separator: String) -> String {
        services.map(\.description).joined(separator: separator)
    }

    func hostsText(separator: String) -> String {
        hosts.map(\.description).joined(separator: separator)
    }
}

/// The store of the gateway's own configuration, opened for one command.
struct TokenSession {
    let configuration: GatewayConfiguration
    let shared: SharedStore

    /// - Parameter founding: makes a cluster of an empty folder; whoever only looks must not.
    static func open(_ options: ConfigurationOptions, founding: Bool = false) async throws -> TokenSession {
        let configuration = try options.load()
        let shared =
            try await founding
            ? SharedStore.openForCommand(configuration.store).shared
            : SharedStore.openExisting(configuration.store).shared
        return TokenSession(configuration: configuration, shared: shared)
    }

    var editor: CredentialEditor { CredentialEditor(store: shared.store, keyring: shared.keyring) }

    /// - Parameter gateways: values of `--gateway`.
    func enrolment(_ gateways: [String]) async throws -> Enrolment {
        let port = configuration.dtlsListen.port
        let addresses = try gateways.map { text in
            do throws(Complaint) {
                return try HostPort.parse(text, defaultPort: port == 0 ? nil : port)
            } catch {
                throw ValidationError("--gateway: \(error.what). \(error.remedy)")
            }
        }
        return try await Enrolment(configuration, gateways: addresses, store: shared.store)
    }

    func close() { shared.close() }
}

/// What was just made, once: the token on standard output, and how to use it on standard error.
enum NewToken {
    static func show(_ token: IssuedToken, _ credential: Credential, _ enrolment: Enrolment, json: Bool) throws {
        let description = TokenDescription(credential, token: token, enrolment: enrolment)
        print(json ? try TokenDescription.json(description) : token.text)
        if let command = description.command {
            Terminal.note("Enrol an agent (3000 is the port of its service):\n\n    \(command)\n")
        }
        Terminal.note("Token and join string are shown only this once; the store has a hash of the secret.")
        for note in enrolment.notes { Terminal.note(note) }
    }

    static func summary(_ credential: Credential) -> String {
        let hosts = credential.hostsText(separator: ", ")
        let services = credential.servicesText(separator: ", ")
        let limit = credential.maxAgents.map { "; at most \($0) agents on each gateway" } ?? ""
        return "services \(services); hosts \(hosts.isEmpty ? "none" : hosts)\(limit)"
    }

    /// `24h`, as the option `--grace` takes it.
    static func grace(_ text: String?) throws -> Duration {
        guard let text else { return CredentialEditor.grace }
        do throws(Complaint) {
            return try Scalars.duration(text, in: CredentialEditor.graceRange)
        } catch {
            throw ValidationError("--grace: \(error.what). \(error.remedy)")
        }
    }
}
