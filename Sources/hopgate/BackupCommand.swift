import ArgumentParser
import Cluster
import FoundationEssentials
import Gateway
import NIOCore
import Operations
import Store

struct BackupCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "backup",
        abstract: "Write everything that the replicas share into one tar file.",
        discussion: """
            Cluster, keys (unless they are mounted), credentials, certificates and ACME state. Works beside running
            gateways. The file is a secret: with it anybody is the cluster. Its mode is 0600.
            """
    )

    @OptionGroup var options: ConfigurationOptions

    @Argument(help: ArgumentHelp("Where to write it; - for standard output.", valueName: "file"))
    var file: String

    func run() async throws {
        let configuration = try options.load()
        let (_, store) = try await SharedStore.openExisting(configuration.store)
        defer { store.close() }
        let mounted = try configuration.store.mountedKeys()
        let volume = store.volume
        let now = Date()
        let time = UInt64(max(0, now.timeIntervalSince1970))
        let created = now.formatted(.iso8601)
        let archive = try await onThread("backup", deadline: .minutes(30), place: volume.files.root) {
            () throws(StoreError) in
            try volume.backup(mounted: mounted, release: version, time: time, created: created)
        }
        try BackupFile.write(archive.bytes, to: file)
        for note in archive.notes { Terminal.note(note) }
        let place = file == "-" ? "the backup" : file
        Terminal.note("\(archive.fileCount) files of cluster \(archive.cluster) are in \(place).")
        guard !archive.holdsKeys else { return }
        Terminal.note("Not in it: the cluster's keys, which are mounted. Keep them elsewhere.")
    }
}

struct RestoreCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "restore",
        abstract: "Write a backup into an empty store.",
        discussion: """
            Everything is checked before anything is written. A store that has a cluster is refused. Stop all gateways
            first. If it is interrupted, run it again.
            """
    )

    @OptionGroup var options: ConfigurationOptions

    @Argument(help: ArgumentHelp("What hopgate backup wrote; - for standard input.", valueName: "file"))
    var file: String

    func run() async throws {
        let configuration = try options.load()
        guard configuration.store.driver == .volume else {
            throw Failure("store.driver is \"memory\", which keeps nothing; restore into a volume")
        }
        let backup = try Backup(
            try BackupFile.read(file),
            mounted: try configuration.store.mountedKeys(),
            place: file == "-" ? "standard input" : file
        )
        let path = configuration.store.path + "/v1"
        try await onThread("restore", deadline: .minutes(60), place: path) { () throws(StoreError) in
            try Volume.at(path, creating: true).restore(backup)
        }
        Terminal.note(
            "Cluster \(backup.cluster) is restored as it was \(backup.created): \(backup.credentialCount) credentials, "
                + "\(backup.fileCount) files."
        )
    }
}
