import ArgumentParser
import Cluster
import Credentials
import Formats
import Gateway
import NIOCore
import Operations
import Settings
import Store

struct ClusterCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "cluster",
        abstract: "List the replicas, show the cluster, and change its key.",
        subcommands: [ClusterStatusCommand.self, ClusterShowCommand.self, RotateKeyCommand.self],
        defaultSubcommand: ClusterStatusCommand.self
    )
}

struct ClusterStatusCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "status",
        abstract: "List the replicas as the gateway that runs with this configuration sees them."
    )

    @OptionGroup var options: AdminOptions

    @Flag(help: "Print the answer as a JSON object.")
    var json = false

    func run() async throws {
        let answer = try await options.client().request("GET", "/v1/replicas")
        if json { return try Terminal.print(answer) }
        let rows = (answer["replicas"]?.objects ?? []).map { replica in
            [
                replica.text("incarnation") + (replica["self"] == .bool(true) ? " *" : ""),
                replica.text("name"), replica.text("version"), replica.text("state"),
                replica.text("sessions"), replica.text("silent_seconds"),
                replica["keys"]?.strings?.first ?? "?", replica.text("problem", absent: ""),
            ]
        }
        try Terminal.print(table: [["REPLICA", "NAME", "VERSION", "STATE", "SESSIONS", "SILENT", "KEY", ""]] + rows)
    }
}

struct ClusterShowCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "show",
        abstract: "Show the id of the store's cluster, for store.cluster, and its keys."
    )

    @OptionGroup var options: ConfigurationOptions

    @Flag(help: "Print a JSON object.")
    var json = false

    func run() async throws {
        let context = try await CommandContext.open(try await options.load())
        context.close()
        let (cluster, store) = (context.shared.cluster, context.storePath)
        let keys = cluster.keyring.keys.map(\.id)
        if json {
            return try Terminal.print([
                "id": .string(cluster.id), "store": .string(store), "keys": .array(keys.map { .string($0) }),
                "key_on_volume": .bool(cluster.isKeyOnVolume),
                "keys_on_volume": .array(cluster.keysOnVolume.map { .string($0) }),
            ])
        }
        let places = cluster.keyDescriptions(in: context.configuration.store.folder)
        try Terminal.print(table: [
            ["cluster", cluster.id], ["store", store], ["keys", places.joined(separator: ", ")],
        ])
    }
}

struct RotateKeyCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "rotate-key",
        abstract: "Change the cluster's key without interrupting service.",
        discussion: """
            Adds a key for verification, waits until every live replica has it, makes it the signing key and reseals \
            all credentials and certificates. Old keys stay valid until they are retired. If interrupted, run it \
            again: it continues.
            --retire-old removes the old keys instead; a rotation that was interrupted is finished first.
            With cluster_key_file you change the keys yourself: the command explains how, and reseals with the first \
            key.
            """
    )

    @OptionGroup var options: ConfigurationOptions

    @Flag(help: "Make no new key; remove those that no longer sign, once no live replica needs them.")
    var retireOld = false

    @Option(help: ArgumentHelp("How long to wait for live replicas to load a key.", valueName: "duration"))
    var wait: String = "60s"

    func run() async throws {
        let configuration = try await options.load()
        var rotation = KeyRotation.Options()
        rotation.retiresOld = retireOld
        rotation.timeout = TimeAmount(try Terminal.duration(wait, flag: "--wait"))
        let isMounted = configuration.store.clusterKeyFile != nil
        guard configuration.store.driver == .volume else {
            let key = isMounted ? "the first of cluster_key_file" : "a new one at each start"
            throw StoreError(
                .unsupported,
                "store.driver",
                "is \"memory\": the running gateway alone has the cluster's key, which is \(key); "
                    + (isMounted ? "change it there, and restart the gateway" : "to change it, restart the gateway")
            )
        }
        if isMounted { Terminal.info(Self.mountedSteps) }
        let context = try await CommandContext.open(configuration)
        defer { context.close() }
        let settings = configuration.store
        let mounted: @Sendable () async throws(StoreError) -> [ClusterKey] = { () async throws(StoreError) in
            try await settings.mountedKeys() ?? []
        }
        let cluster = try await KeyRotation(
            store: context.store,
            mounted: isMounted ? mounted : nil,
            options: rotation,
            report: { Terminal.info(Self.text($0)) }
        ).run()
        try Terminal.print(table: [["cluster", cluster.id], ["key", cluster.keyring.signing.id]])
        let old = cluster.keyring.keys.dropFirst().map(\.id)
        guard !old.isEmpty, !isMounted else { return }
        Terminal.info("Still valid: \(old.joined(separator: ", ")).")
        Terminal.info("Remove them with: hopgate cluster rotate-key --retire-old")
    }

    private static let mountedSteps = """
        The cluster's keys are mounted (cluster_key_file), so you change them in that file:
          1. add the new key as the last line, and wait until "hopgate cluster status" shows all replicas again;
          2. move it to the first line: every replica signs with it within seconds;
          3. run this command: it reseals with the first key what was sealed with others;
          4. remove the old line.
        This is step 3.
        """

    private static func text(_ event: KeyRotation.Event) -> String {
        switch event {
        case .added(let id): "Added key \(id) for verification."
        case .waiting(let names): "Waiting for \(names.joined(separator: ", "))."
        case .notAwaited(let names, let silence):
            "Not waited for: \(names.joined(separator: ", ")), silent for \(silence.nanoseconds / 1_000_000_000) s."
        case .signing(let id): "Key \(id) is the signing key."
        case .resealed(let count): "Resealed \(count) credentials and certificates."
        case .skipped(let key, let problem): "Skipped \(key): \(problem)"
        case .retired(let id): "Removed key \(id)."
        }
    }
}
