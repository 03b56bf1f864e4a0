import ArgumentParser
import FoundationEssentials
import Gateway

/// The flags by which every command finds the gateway's configuration.
struct ConfigurationOptions: ParsableArguments {
    @Option(name: [.short, .long], help: ArgumentHelp("The configuration file (YAML).", valueName: "file"))
    var config: String?

    @Option(help: ArgumentHelp("The folder that all replicas share.", valueName: "folder"))
    var storePath: String?

    @Option(help: ArgumentHelp("Another name of --store-path.", valueName: "folder"))
    var acmeCacheDir: String?

    var flags: [String: String] {
        ["store.path": storePath, "acme_cache_dir": acmeCacheDir].compactMapValues(\.self)
    }

    /// - Parameter more: flags of one command, by the key of their setting.
    func load(_ more: [String: String] = [:]) throws -> GatewayConfiguration {
        try GatewayConfiguration.load(file: config, environment: Self.environment, flags: flags.merging(more) { $1 })
    }

    static var environment: [String: String] { ProcessInfo.processInfo.environment }
}

/// The settings of a gateway that can be given as flags; names and forms are those of the configuration file.
struct GatewayOptions: ParsableArguments {
    @OptionGroup var configuration: ConfigurationOptions

    @Option(help: ArgumentHelp("Where plain HTTP is taken and redirected.", valueName: "host:port"))
    var httpListen: String?

    @Option(help: ArgumentHelp("Where HTTPS is taken.", valueName: "host:port"))
    var httpsListen: String?

    @Option(help: ArgumentHelp("Where agents dial to, UDP (default: as HTTPS).", valueName: "host:port"))
    var dtlsListen: String?

    @Option(help: ArgumentHelp("Where /healthz, /readyz and /metrics are served.", valueName: "host:port"))
    var opsListen: String?

    @Option(help: ArgumentHelp("Where operators reach this process, with a bearer token.", valueName: "host:port"))
    var adminListen: String?

    @Option(help: ArgumentHelp("volume or memory.", valueName: "driver"))
    var storeDriver: String?

    @Option(help: ArgumentHelp("Where CAs may write to about certificates.", valueName: "address"))
    var acmeEmail: String?

    @Option(help: ArgumentHelp("The CA: letsencrypt, letsencrypt-staging, or a directory's URL.", valueName: "ca"))
    var acmeCa: String?

    @Option(help: ArgumentHelp("Event loops (default: one a core).", valueName: "count"))
    var loops: String?

    @Option(help: ArgumentHelp("trace, debug, info, notice, warning, error or critical.", valueName: "level"))
    var logLevel: String?

    @Option(help: ArgumentHelp("auto, json or text.", valueName: "format"))
    var logFormat: String?

    @Option(help: ArgumentHelp("How long requests may take to finish after SIGTERM.", valueName: "duration"))
    var shutdownGrace: String?

    var flags: [String: String] {
        let all: [String: String?] = [
            "http_listen": httpListen,
            "https_listen": httpsListen,
            "dtls_listen": dtlsListen,
            "ops_listen": opsListen,
            "admin_listen": adminListen,
            "store.driver": storeDriver,
            "acme.email": acmeEmail,
            "acme.ca": acmeCa,
            "loops": loops,
            "log_level": logLevel,
            "log_format": logFormat,
            "shutdown_grace": shutdownGrace,
        ]
        return all.compactMapValues(\.self).merging(configuration.flags) { $1 }
    }

    func load() throws -> GatewayConfiguration {
        try configuration.load(flags)
    }
}
