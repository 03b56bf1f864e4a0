import Agent
import ArgumentParser
import Formats
import Observability
import Settings

struct HealthcheckCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "healthcheck",
        abstract: "Check whether the agent on this machine has a live tunnel.",
        discussion: "Exit code 0: it has one. 1: it has none, or does not answer. For container health checks."
    )

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
        let address: ListenAddress
        do {
            let text = opsListen ?? CommonOptions.environment["HOPAGENT_OPS_LISTEN"]
            address = try text.map(ListenAddress.parse) ?? AgentConfiguration.defaultOpsListen
        } catch {
            throw ValidationError("--ops-listen: \(error.what). \(error.remedy)")
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
