import Agent
import ArgumentParser
import Observability
import Settings

struct HealthcheckCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "healthcheck",
        abstract: "Ask the agent that runs on this machine whether it has a live tunnel.",
        discussion: "Exit code 0: it has. 1: it has not, or nobody answers. For container health checks."
    )

    @Option(help: ArgumentHelp("Where the agent serves /readyz.", valueName: "host:port"))
    var opsListen: String?

    @Flag(help: "Ask only whether the process turns over (/healthz).")
    var live = false

    @Option(help: ArgumentHelp("Seconds for the whole question.", valueName: "seconds"))
    var timeout: Int = 3

    func validate() throws {
        guard (1...60).contains(timeout) else { throw ValidationError("--timeout is a number from 1 to 60.") }
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
            throw Failure("\(error); is the agent running, and is this its ops_listen?")
        }
        guard answer.status == 200 else {
            throw Failure("\(probe.url) answers \(answer.status):\n\(answer.body)")
        }
        print(answer.body, terminator: answer.body.hasSuffix("\n") ? "" : "\n")
    }
}
