import ArgumentParser
import Cluster
import Formats
import Gateway
import Operations
import Store

struct StoreCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "store",
        abstract: "Inspect the folder that all replicas share.",
        subcommands: [StoreCheckCommand.self]
    )
}

struct StoreCheckCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "check",
        abstract: "Report what the store's volume supports, how fast it is, and problems of its contents.",
        discussion: """
            Works while gateways run, on an empty folder (which stays empty) and on a damaged one.
            Exit code 0: gateways can use the store. 1: they cannot, for the reasons under "Problems".
            """
    )

    @OptionGroup var options: ConfigurationOptions

    @Flag(help: "Print a JSON object.")
    var json = false

    func run() async throws {
        let report = await StoreCheck(try await options.load().store).run()
        try json ? Terminal.print(report.json) : Terminal.print(report.text(table: Terminal.table))
        guard report.isUsable else { throw ExitCode(1) }
    }
}
