import ArgumentParser
import Credentials
import Formats
import Gateway

struct TokenListCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(commandName: "list", abstract: "List the tokens, without secrets.")

    @OptionGroup var options: ConfigurationOptions

    @Flag(help: "Print a JSON array.")
    var json = false

    func run() async throws {
        let context = try await CommandContext.open(try await options.load())
        defer { context.close() }
        let (credentials, problems) = try await context.editor.list()
        if json {
            try Terminal.print(.array(credentials.map { .object($0.document) }))
        } else if credentials.isEmpty {
            Terminal.info("There are no tokens. Create one with: hopgate token create NAME")
        } else {
            let rows = credentials.map { credential -> [String] in
                let hosts = credential.hostsText(separator: ",")
                let agents = credential.maxAgents.map { String($0) } ?? "-"
                let services = credential.servicesText(separator: ",")
                return [
                    credential.id, credential.name, credential.stateText, services, hosts.isEmpty ? "-" : hosts, agents,
                    credential.created,
                ]
            }
            try Terminal.print(table: [["ID", "NAME", "STATE", "SERVICES", "HOSTS", "AGENTS", "CREATED"]] + rows)
        }
        guard problems.isEmpty else {
            throw Failure("some tokens cannot be read:\n" + problems.map(\.description).joined(separator: "\n"))
        }
    }
}
