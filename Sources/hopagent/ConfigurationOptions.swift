import Agent
import ArgumentParser
import FoundationEssentials

/// The flags that `run` and `http` share. Their names and forms are those of the configuration file.
struct CommonOptions: ParsableArguments {
    @Option(
        name: [.long],
        help: ArgumentHelp("A gateway to attach to; may be repeated (default port 8443).", valueName: "host[:port]")
    )
    var gateway: [String] = []

    @Option(
        help: ArgumentHelp(
            "The token that \"hopgate token create\" printed. Safer: HOPAGENT_TOKEN_FILE.",
            valueName: "token"
        )
    )
    var token: String?

    @Option(help: ArgumentHelp("A file that contains the token.", valueName: "file"))
    var tokenFile: String?

    @Option(
        help: ArgumentHelp(
            "The join string of \"hopgate token create\": gateways, trust and token in one. Safer: HOPAGENT_JOIN_FILE.",
            valueName: "join-string"
        )
    )
    var join: String?

    @Option(help: ArgumentHelp("A file that contains the join string.", valueName: "file"))
    var joinFile: String?

    @Option(help: ArgumentHelp("A host to request from the gateway; may be repeated.", valueName: "host"))
    var host: [String] = []

    @Option(
        help: ArgumentHelp("The name of this agent (default: the pod's or machine's name).", valueName: "name")
    )
    var name: String?

    @Option(
        help: ArgumentHelp(
            "The certificate authorities that the gateway's certificate is verified against (PEM).",
            valueName: "file"
        )
    )
    var caFile: String?

    @Option(help: ArgumentHelp("The SHA-256 of the gateway's certificate or public key.", valueName: "sha256:HEX"))
    var pin: String?

    @Option(
        help: ArgumentHelp("The name in the gateway's certificate, if it is not the gateway's host.", valueName: "name")
    )
    var serverName: String?

    @Option(
        help: ArgumentHelp("The address that serves /healthz, /readyz and /metrics, or off.", valueName: "host:port")
    )
    var opsListen: String?

    @Option(help: ArgumentHelp("The number of concurrent requests.", valueName: "count"))
    var maxRequests: String?

    @Option(help: ArgumentHelp("Hosts other than loopback that services may be on.", valueName: "host"))
    var targetHosts: String?

    @Option(help: ArgumentHelp("trace, debug, info, notice, warning, error or critical.", valueName: "level"))
    var logLevel: String?

    @Option(help: ArgumentHelp("auto, json or text.", valueName: "format"))
    var logFormat: String?

    @Option(help: ArgumentHelp("The time that requests may take to finish after SIGTERM.", valueName: "duration"))
    var shutdownGrace: String?

    /// The flags that were given, by the key of their setting.
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

/// All settings of an agent: flags and the configuration file.
struct AgentOptions: ParsableArguments {
    @Option(name: [.short, .long], help: ArgumentHelp("The configuration file (YAML).", valueName: "file"))
    var config: String?

    @Option(
        help: ArgumentHelp("A service and the address it listens on; may be repeated.", valueName: "name=[host:]port")
    )
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
