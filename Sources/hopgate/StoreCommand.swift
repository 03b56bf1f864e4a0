import ArgumentParser
import Cluster
import Formats
import Gateway
import Operations
import Store

struct StoreCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "store",
        abstract: "Look at the folder that all replicas share.",
        subcommands: [StoreCheckCommand.self]
    )
}

struct StoreCheckCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "check",
        abstract: "Say what the store's volume can do, how fast, and what is wrong with what is on it.",
        discussion: """
            Works beside running gateways, on an empty folder (which stays empty) and on a broken one.
            Exit code 0: gateways can use the store. 1: they cannot, and the lines under "Problems" say why.
            """
    )

    @OptionGroup var options: ConfigurationOptions

    @Flag(help: "Print a JSON object.")
    var json = false

    func run() async throws {
        let report = await StoreCheck(try options.load().store).run()
        print(json ? String(decoding: report.json.json, as: UTF8.self) : report.text(table: Terminal.table))
        guard report.isUsable else { throw ExitCode(1) }
    }
}
