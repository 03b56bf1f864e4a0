import ArgumentParser
import Gateway
import NIOCore

struct DrainCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "drain",
        abstract: "Tell the gateway that runs with this configuration to finish and end, as SIGTERM does."
    )

    @OptionGroup var options: AdminOptions

    @Option(help: ArgumentHelp("Return only when it has ended, and fail if that takes longer.", valueName: "duration"))
    var wait: String?

    func run() async throws {
        let patience = try wait.map { TimeAmount(try Terminal.duration($0, flag: "--wait")) }
        let client = try await options.client()
        _ = try client.post("/v1/drain")
        guard let patience else { return Terminal.note("The gateway drains.") }
        let deadline = NIODeadline.now() + patience
        while NIODeadline.now() < deadline {
            do throws(AdminClientError) {
                _ = try client.get("/v1/status")
            } catch {
                // Its admin port is the last thing that it closes.
                if error.code == .nobody { return Terminal.note("The gateway has ended.") }
            }
            try await Task.sleep(for: .milliseconds(200))
        }
        throw Failure("the gateway still runs after \(wait ?? ""); requests in flight have its shutdown_grace")
    }
}
