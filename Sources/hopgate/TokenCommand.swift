import ArgumentParser
import FoundationEssentials
import Gateway

struct TokenCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "token",
        abstract: "Make, list and revoke the tokens of agents.",
        discussion: "A running gateway on the same data folder sees every change within seconds.",
        subcommands: [TokenCreateCommand.self, TokenListCommand.self, TokenRevokeCommand.self]
    )
}

/// A token as `--json` shows it. The secret part is there only when it was just made.
struct TokenDescription: Encodable {
    var id: String
    var name: String
    var services: [String]
    var hosts: [String]
    var created: String
    var revoked: String?
    var token: String?

    init(_ credential: Credential, token: IssuedToken? = nil) {
        id = credential.id
        name = credential.name
        services = credential.services.map(\.description)
        hosts = credential.hosts.map(\.description)
        created = credential.created
        revoked = credential.revoked
        self.token = token?.text
    }

    static func json(_ value: some Encodable) throws -> String {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
        return String(decoding: try encoder.encode(value), as: UTF8.self)
    }
}
