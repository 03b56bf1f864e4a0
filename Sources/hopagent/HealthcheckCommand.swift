import Agent
import ArgumentParser
import Observability
import Settings

struct HealthcheckCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "healthcheck",
        abstract: "Ask the agent that runs with this configuration whether it has a live tunnel.",
        discussion: "Exit code 0: it has one. 1: it has none, or does not answer. For container health checks."
    )

    @Option(name: [.short, .long], help: ArgumentHelp("The agent's configuration file (YAML).", valueName: "file"))
    var config: String?

    @Option(help: ArgumentHelp("The address on which the agent serves /readyz.", valueName: "host:port"))
    var opsListen: String?

    @Flag(help: "Check only whether the process is responsive (/healthz).")
    var live = false

    @Option(help: ArgumentHelp("The time limit of the check in seconds.", valueName: "seconds"))
    var timeout: Int = 3

    func validate() throws {
        guard (1...60).contains(timeout) else { throw ValidationError("--timeout must be a number from 1 to 60.") }
    }

    func run() throws {
        let address = try AgentConfiguration.opsListen(
            file: config,
            environment: CommonOptions.environment,
            flags: opsListen.map { ["ops_listen": $0] } ?? [:]
        )
        guard let address else {
            throw Failure("ops_listen is off, so that the agent answers no check. Set it to HOST:PORT.")
        }
        let path = live ? "/healthz" : "/readyz"
        let probe = OpsProbe(host: address.host, port: address.port, path: path, seconds: timeout)
        let answer: OpsProbe.Response
        do {
            answer = try probe.send()
        } catch {
            throw Failure("\(error). Check that the agent is running and that this is its ops_listen.")
        }
        guard answer.status == 200 else {
            throw Failure("\(probe.url) answered \(answer.status):\n\(answer.body)")
        }
        print(answer.body, terminator: answer.body.hasSuffix("\n") ? "" : "\n")
    }
}
