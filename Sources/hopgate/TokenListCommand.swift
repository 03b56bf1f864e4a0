import ArgumentParser
import Gateway

struct TokenListCommand: ParsableCommand {
    static let configuration = CommandConfiguration(commandName: "list", abstract: "List the tokens, without secrets.")

    @OptionGroup var options: ConfigurationOptions

    @Flag(help: "Print a JSON array.")
    var json = false

    func run() throws {
        let folder = CredentialFolder(dataDirectory: try options.load().store.path)
        let (credentials, problems) = try folder.list()
        if json {
            print(try TokenDescription.json(credentials.map { TokenDescription($0) }))
        } else if credentials.isEmpty {
            Terminal.note("There are no tokens in \(folder.path). Make one with: hopgate token create NAME")
        } else {
            let rows = credentials.map { credential in
                [
                    credential.id,
                    credential.name,
                    credential.revoked.map { "revoked \($0)" } ?? "good",
                    credential.services.map(\.description).joined(separator: ","),
                    credential.hosts.isEmpty ? "-" : credential.hosts.map(\.description).joined(separator: ","),
                    credential.created,
                ]
            }
            print(Terminal.table([["ID", "NAME", "STATE", "SERVICES", "HOSTS", "CREATED"]] + rows))
        }
        guard problems.isEmpty else {
            throw Failure("some tokens cannot be read:\n" + problems.map(\.description).joined(separator: "\n"))
        }
    }
}
