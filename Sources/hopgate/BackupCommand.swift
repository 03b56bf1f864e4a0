import ArgumentParser
import Cluster
import Credentials
import FoundationEssentials
import Gateway
import NIOCore
import Operations
import Store

struct BackupCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "backup",
        abstract: "Write all data that the replicas share into one tar file.",
        discussion: """
            Contains the cluster, its keys (unless they are mounted), credentials, certificates and ACME state. Works \
            while gateways run. The file is read back and verified before it replaces an older one. It is a secret: \
            anyone who has it can impersonate the cluster. Its mode is 0600.
            Exit code 0: the file is complete. 1: there is none, or values that a gateway would not accept are not in it.
            """
    )

    @OptionGroup var options: ConfigurationOptions

    @Flag(help: "Verify an existing backup as \"hopgate restore\" does, and change nothing. Needs no store.")
    var check = false

    @Argument(help: ArgumentHelp("The file to write; - for standard output.", valueName: "file"))
    var file: String

    func run() async throws {
        let configuration = try await options.load()
        let mounted = try await configuration.store.mountedKeys()
        if check {
            let backup = try await BackupFile.load(file, mounted: mounted)
            return Terminal.info("Can be restored: \(backup.summary).")
        }
        let context = try await CommandContext.open(configuration)
        defer { context.close() }
        let time = UInt64(max(0, Date().timeIntervalSince1970))
        let store = context.store
        let (backup, summary) = try await BackupFile.write(to: file, mounted: mounted) { archive throws(StoreError) in
            try await store.backup(into: archive, mounted: mounted, release: version, time: time)
        }
        for note in summary.notes { Terminal.info(note) }
        let place = file == "-" ? "standard output" : file
        Terminal.info("Wrote and verified \(place): \(backup.summary).")
        if !backup.holdsKeys {
            Terminal.info("Not included: the cluster's keys, which are mounted. Back them up separately.")
        }
        guard summary.leftOutCount == 0 else {
            throw Failure(
                "values left out: \(summary.leftOutCount), for the reasons above; the others are in \(place)"
            )
        }
    }
}

extension Backup {
    /// The contents in a few words.
    fileprivate var summary: String {
        "cluster \(cluster) as of \(created), \(credentialCount) credentials, \(certificateCount) certificates, "
            + "\(fileCount) files"
    }
}

struct RestoreCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "restore",
        abstract: "Write a backup into an empty store.",
        discussion: """
            The backup is checked before anything is written. A store that has a cluster is refused. Stop all gateways \
            first. What was revoked, rotated or issued after the backup is undone: revoke again.
            If the command is interrupted, run it again.
            """
    )

    @OptionGroup var options: ConfigurationOptions

    @Argument(help: ArgumentHelp("The file that hopgate backup wrote; - for standard input.", valueName: "file"))
    var file: String

    func run() async throws {
        let configuration = try await options.load()
        Terminal.info("Store \(configuration.store.path).")
        let backup = try await BackupFile.load(file, mounted: try await configuration.store.mountedKeys())
        try configuration.store.require(backup, at: file == "-" ? "standard input" : file)
        let store = try await SharedStore.openForRestore(configuration.store)
        defer { store.close() }
        try await store.restore(backup)
        Terminal.info("Restored into \(configuration.store.path): \(backup.summary).")
        Terminal.info("Revocations, rotations and certificates after \(backup.created) are undone: revoke again.")
    }
}
