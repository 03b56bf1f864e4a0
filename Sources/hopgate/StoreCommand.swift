import ArgumentParser
import Cluster
import Formats
import Gateway
import Operations
import Store

struct StoreCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "store",
        abstract: "Inspect the folder that all replicas share, and remove values that cannot be used.",
        subcommands: [StoreCheckCommand.self, StoreRemoveCommand.self]
    )
}

struct StoreCheckCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "check",
        abstract: "Report what the store's volume supports, how fast it is, and problems of its contents.",
        discussion: """
            Works while gateways run, on an empty folder (which stays empty) and on a damaged one. Lists the worst 20 \
            files and values that gateways cannot use, each with its remedy.
            Exit code 0: gateways can use the store and every value in it. 1: they cannot use a value, or for the reasons \
            under "Problems" the whole store.
            """
    )

    @OptionGroup var options: ConfigurationOptions

    @Flag(help: "List every file and value that cannot be used.")
    var all = false

    @Flag(help: "Print a JSON object.")
    var json = false

    func run() async throws {
        let report = await StoreCheck(try await options.load().store).run()
        try json ? Terminal.print(report.json(all: all)) : Terminal.print(report.text(all: all, table: Terminal.table))
        guard report.isFaultless else { throw ExitCode(1) }
    }
}

struct StoreRemoveCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "remove",
        abstract: "Remove a value that gateways cannot use.",
        discussion: """
            For a value that "hopgate store check" lists: a file that is damaged, edited by hand or refused, or a value of \
            another cluster. Running gateways remove what they still use in its place. A value that can be used is not \
            removed: use "hopgate cert remove", "token revoke" or "acme forget-account".
            """
    )

    @OptionGroup var options: ConfigurationOptions

    @Argument(help: ArgumentHelp("Its key, such as certs/app.example.com.", valueName: "key"))
    var key: String

    func run() async throws {
        let key = try StoreKey(key)
        guard let prefix = key.parent, StoreLayout.all.contains(prefix) else {
            let prefixes = StoreLayout.all.map { "\($0)/…" }.joined(separator: ", ")
            throw ValidationError("The key of a value is one of \(prefixes).")
        }
        let context = try await CommandContext.open(try await options.load())
        defer { context.close() }
        try await ValueExamination(context.certificates, context.keyring).remove(key)
        Terminal.info("Removed \(key).")
    }
}
