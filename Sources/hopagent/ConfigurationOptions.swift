import Agent
import ArgumentParser
import FoundationEssentials

/// The flags that both ways of running take; names and forms are those of the configuration file.
struct CommonOptions: ParsableArguments {
    @Option(
        name: [.long],
        help: ArgumentHelp("A gateway to dial; may be repeated (default port 8443).", valueName: "host[:port]")
    )
    var gateway: [String] = []

    @Option(
        help: ArgumentHelp("What \"hopgate token create\" printed. Better: HOPAGENT_TOKEN_FILE.", valueName: "token")
    )
    var token: String?

    @Option(help: ArgumentHelp("A file that holds the token.", valueName: "file"))
    var tokenFile: String?

    @Option(
        help: ArgumentHelp(
            "The join string of \"hopgate token create\": gateways, trust and token in one. Better: HOPAGENT_JOIN_FILE.",
            valueName: "join-string"
        )
    )
    var join: String?

    @Option(help: ArgumentHelp("A file that holds the join string.", valueName: "file"))
    var joinFile: String?

    @Option(help: ArgumentHelp("A host to ask the gateway for; may be repeated.", valueName: "host"))
    var host: [String] = []

    @Option(
        help: ArgumentHelp("What this agent calls itself (default: the pod's or machine's name).", valueName: "name")
    )
    var name: String?

    @Option(help: ArgumentHelp("Trust the gateway by these certificate authorities (PEM).", valueName: "file"))
    var caFile: String?

    @Option(help: ArgumentHelp("Trust the gateway by this SHA-256.", valueName: "sha256:HEX"))
    var pin: String?

    @Option(help: ArgumentHelp("The name in the gateway's certificate, if not the one dialled.", valueName: "name"))
    var serverName: String?

    @Option(help: ArgumentHelp("Where /healthz, /readyz and /metrics are served, or off.", valueName: "host:port"))
    var opsListen: String?

    @Option(help: ArgumentHelp("Requests at a time.", valueName: "count"))
    var maxRequests: String?

    @Option(help: ArgumentHelp("Further hosts than loopback that services may be on.", valueName: "host"))
    var targetHosts: String?

    @Option(help: ArgumentHelp("trace, debug, info, notice, warning, error or critical.", valueName: "level"))
    var logLevel: String?

    @Option(help: ArgumentHelp("auto, json or text.", valueName: "format"))
    var logFormat: String?

    @Option(help: ArgumentHelp("How long requests may take to finish after SIGTERM.", valueName: "duration"))
    var shutdownGrace: String?

    var flags: [String: String] {
        let all: [String: String?] = [
            "gateway": Self.joined(gateway),
            "token": token,
            "token_file": tokenFile,
            "join": join,
            "join_file": joinFile,
            "host": Self.joined(host),
            "name": name,
            "ca_file": caFile,
            "pin": pin,
            "server_name": serverName,
            "ops_listen": opsListen,
            "max_requests": maxRequests,
            "target_hosts": targetHosts,
            "log_level": logLevel,
            "log_format": logFormat,
            "shutdown_grace": shutdownGrace,
        ]
        return all.compactMapValues(\.self)
    }

    static func joined(_ list: [String]) -> String? { list.isEmpty ? nil : list.joined(separator: ",") }

    static var environment: [String: String] { ProcessInfo.processInfo.environment }
}

/// All settings of an agent, as flags and by file.
struct AgentOptions: ParsableArguments {
    @Option(name: [.short, .long], help: ArgumentHelp("The configuration file (YAML).", valueName: "file"))
    var config: String?

    @Option(help: ArgumentHelp("A service and where it listens; may be repeated.", valueName: "name=[host:]port"))
    var service: [String] = []

    @OptionGroup var common: CommonOptions

    var flags: [String: String] {
        var flags = common.flags
        flags["service"] = CommonOptions.joined(service)
        return flags
    }

    func load() throws -> AgentConfiguration {
        try AgentConfiguration.load(file: config, environment: CommonOptions.environment, flags: flags)
    }
}
