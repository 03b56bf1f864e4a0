import ArgumentParser
import Cluster
import Credentials
import Formats
import Gateway
import NIOCore
import Operations
import Settings
import Store
import Synchronization

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
                replica["keys"]?.strings?.joined(separator: ", ") ?? "?", replica.text("problem", absent: ""),
            ]
        }
        try Terminal.print(table: [["REPLICA", "NAME", "VERSION", "STATE", "SESSIONS", "SILENT", "KEYS", ""]] + rows)
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
            With cluster_key_file you change the keys yourself: the command says which step is next, and reseals with \
            the first key. --retire-old then fails: remove the old line from the file.
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
        let file = configuration.store.clusterKeyFile
        let isMounted = file != nil
        guard configuration.store.driver == .volume else {
            let key = isMounted ? "the first of cluster_key_file" : "a new one at each start"
            throw StoreError(
                .unsupported,
                "store.driver",
                "is \"memory\": the running gateway alone has the cluster's key, which is \(key); "
                    + (isMounted ? "change it there, and restart the gateway" : "to change it, restart the gateway")
            )
        }
        let settings = configuration.store
        if retireOld, let file { throw Self.refusal(file, try await settings.mountedKeys() ?? []) }
        let context = try await CommandContext.open(configuration)
        defer { context.close() }
        let change = MountedKeyChange(context.shared.cluster)
        if let file { Terminal.info(Self.text(change, file)) }
        let hasSkipped = Atomic(false)
        let mounted: @Sendable () async throws(StoreError) -> [ClusterKey] = { () async throws(StoreError) in
            try await settings.mountedKeys() ?? []
        }
        let cluster = try await KeyRotation(
            store: context.store,
            mounted: isMounted ? mounted : nil,
            options: rotation,
            report: { event in
                if case .skipped = event { hasSkipped.store(true, ordering: .relaxed) }
                Terminal.info(Self.text(event))
            }
        ).run()
        try Terminal.print(table: [["cluster", cluster.id], ["key", cluster.keyring.signing.id]])
        let old = cluster.keyring.keys.dropFirst().map(\.id)
        if let file {
            if let next = Self.nextStep(change, file, hasSkipped: hasSkipped.load(ordering: .relaxed)) {
                Terminal.info(next)
            }
            return
        }
        if retireOld { Terminal.info("Backups that were made before still hold the removed keys: make a new one.") }
        guard !old.isEmpty else { return }
        Terminal.info("Still valid: \(old.joined(separator: ", ")).")
        Terminal.info("Remove them with: hopgate cluster rotate-key --retire-old")
    }

    /// Describes how mounted keys are changed, and which step is next.
    private static func text(_ change: MountedKeyChange, _ file: String) -> String {
        let step =
            switch change.step {
            case .add: "To change the key, begin with step 1."
            case .promote(let new): "Not used for signing yet: \(new.joined(separator: ", ")). Next is step 2."
            case .reseal: "This is step 3."
            case .remove: "cluster.json is sealed with it, so step 3 was done before and is repeated."
            }
        let count = change.keys.count == 1 ? "one key" : "\(change.keys.count) keys"
        return """
            The cluster's keys are mounted (cluster_key_file), so you change them in \(file), on every replica:
              1. add the new key as the last line, and wait until "hopgate cluster status" lists it for every replica;
              2. move it to the first line: every replica signs with it within seconds;
              3. run this command: it reseals with the first key what was sealed with others;
              4. remove the old line.
            The file holds \(count). The first, \(change.keys[0]), signs. \(step)
            """
    }

    /// Returns the remark on the step after a run, or `nil` if the run has changed nothing about it.
    private static func nextStep(_ change: MountedKeyChange, _ file: String, hasSkipped: Bool) -> String? {
        switch change.step {
        case .add, .promote: return nil
        case .reseal, .remove: break
        }
        guard !hasSkipped else {
            return "Before step 4 repair what was skipped, and run this command again: it may be lost with an old key."
        }
        let old = change.keys.dropFirst().joined(separator: ", ")
        return "Next is step 4: remove from \(file) the lines of the other keys: \(old)."
    }

    /// Returns the error that mounted keys are not removed by a command.
    private static func refusal(_ file: String, _ keys: [ClusterKey]) -> StoreError {
        guard let signing = keys.first?.id, keys.count > 1 else {
            return StoreError(.refused, file, "holds one key, and it is mounted: there is no old key to remove")
        }
        return StoreError(
            .refused,
            file,
            "holds \(keys.count) keys, which are mounted, so no command removes one: when "
                + "\"hopgate cluster rotate-key\" says that step 4 is next, remove the old line from \(file) yourself; "
                + "the first key, \(signing), signs"
        )
    }

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
