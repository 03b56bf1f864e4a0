import ArgumentParser
import FoundationEssentials
import Gateway
import Threads

/// The options with which every command loads the gateway's configuration.
struct ConfigurationOptions: ParsableArguments {
    @Option(name: [.short, .long], help: ArgumentHelp("The configuration file (YAML).", valueName: "file"))
    var config: String?

    @Option(help: ArgumentHelp("The folder that all replicas share.", valueName: "folder"))
    var storePath: String?

    @Option(help: ArgumentHelp("Another name of --store-path.", valueName: "folder"))
    var acmeCacheDir: String?

    @Option(help: ArgumentHelp("The id of the only cluster to use; none is founded then.", valueName: "id"))
    var storeCluster: String?

    var flags: [String: String] {
        ["store.path": storePath, "acme_cache_dir": acmeCacheDir, "store.cluster": storeCluster]
            .compactMapValues(\.self)
    }

    /// Loads the configuration.
    ///
    /// - Parameter more: Flags of one command, by the key of their setting.
    func load(_ more: [String: String] = [:]) async throws -> GatewayConfiguration {
        let (file, environment, flags) = (config, Self.environment, flags.merging(more) { $1 })
        // The files that the configuration names are opened, and may be on a volume that hangs.
        return try await withBlockingThread(
            "configuration",
            limit: .seconds(10),
            timeout: Failure("the configuration, or a file that it names, does not answer; is its volume up?")
                as any Error,
            refused: Failure(ThreadLimit.message)
        ) { try GatewayConfiguration.load(file: file, environment: environment, flags: flags) }
    }

    static var environment: [String: String] { ProcessInfo.processInfo.environment }
}

/// The gateway's settings that can be given as flags. Names and values are those of the configuration file.
struct GatewayOptions: ParsableArguments {
    @OptionGroup var configuration: ConfigurationOptions

    @Option(help: ArgumentHelp("The address for plain HTTP, which is redirected.", valueName: "host:port"))
    var httpListen: String?

    @Option(help: ArgumentHelp("The address for HTTPS.", valueName: "host:port"))
    var httpsListen: String?

    @Option(help: ArgumentHelp("The UDP address for agents (default: as HTTPS).", valueName: "host:port"))
    var dtlsListen: String?

    @Option(help: ArgumentHelp("The UDP address for other replicas.", valueName: "host:port"))
    var meshListen: String?

    @Option(help: ArgumentHelp("The address for /healthz, /readyz and /metrics.", valueName: "host:port"))
    var opsListen: String?

    @Option(help: ArgumentHelp("The address of the admin port, which needs a bearer token.", valueName: "host:port"))
    var adminListen: String?

    @Option(help: ArgumentHelp("volume or memory.", valueName: "driver"))
    var storeDriver: String?

    @Option(help: ArgumentHelp("The e-mail address at which CAs may contact you.", valueName: "address"))
    var acmeEmail: String?

    @Option(help: ArgumentHelp("The CA: letsencrypt, letsencrypt-staging, or a directory's URL.", valueName: "ca"))
    var acmeCa: String?

    @Option(help: ArgumentHelp("The number of event loops (default: one per core).", valueName: "count"))
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
            "mesh_listen": meshListen,
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

    func load() async throws -> GatewayConfiguration {
        try await configuration.load(flags)
    }
}
