import ArgumentParser
import Gateway
import Observability
import Settings

struct HealthcheckCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "healthcheck",
        abstract: "Ask the gateway that runs with this configuration whether it is ready.",
        discussion: "Exit code 0: ready. 1: not ready, or no response. For container health checks."
    )

    @Option(name: [.short, .long], help: ArgumentHelp("The configuration file (YAML).", valueName: "file"))
    var config: String?

    @Option(help: ArgumentHelp("The address on which the gateway serves /readyz.", valueName: "host:port"))
    var opsListen: String?

    @Option(help: ArgumentHelp("The time limit for the whole request.", valueName: "seconds"))
    var timeout: Int = 3

    func validate() throws {
        guard (1...60).contains(timeout) else { throw ValidationError("--timeout is a number from 1 to 60.") }
    }

    func run() throws {
        let address = try GatewayConfiguration.opsListen(
            file: config,
            environment: ConfigurationOptions.environment,
            flags: opsListen.map { ["ops_listen": $0] } ?? [:]
        )
        let probe = OpsProbe(host: address.host, port: address.port, path: "/readyz", seconds: timeout)
        let answer: OpsProbe.Response
        do {
            answer = try probe.send()
        } catch {
            throw Failure("\(error); is the gateway running, and is this its ops_listen?")
        }
        guard answer.status == 200 else {
            throw Failure("\(probe.url) returned \(answer.status):\n\(answer.body)")
        }
        try Terminal.print(answer.body, terminator: answer.body.hasSuffix("\n") ? "" : "\n")
    }
}
