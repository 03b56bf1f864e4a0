import ArgumentParser
import Gateway
import NIOCore

struct DrainCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "drain",
        abstract: "Shut down the gateway that runs with this configuration gracefully, as SIGTERM does."
    )

    @OptionGroup var options: AdminOptions

    @Option(help: ArgumentHelp("Wait until it has ended, and fail if that takes longer.", valueName: "duration"))
    var wait: String?

    func run() async throws {
        let timeout = try wait.map { TimeAmount(try Terminal.duration($0, flag: "--wait")) }
        let client = try await options.client()
        _ = try await client.request("POST", "/v1/drain")
        guard let timeout else { return Terminal.info("The gateway is draining.") }
        let deadline = NIODeadline.now() + timeout
        while NIODeadline.now() < deadline {
            do throws(AdminClientError) {
                _ = try client.get("/v1/status")
            } catch {
                // The admin port is the last one that the gateway closes.
                if error.code == .notListening { return Terminal.info("The gateway has ended.") }
            }
            try await Task.sleep(for: .milliseconds(200))
        }
        throw Failure("the gateway is still running after \(wait ?? ""); its shutdown_grace bounds requests in flight")
    }
}
