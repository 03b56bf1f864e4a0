import Cluster
import Formats
import HopProtocol
import Logging
import NIOCore
import Store
import TestSupport
import Testing

@Suite("The replicas that a process observes")
struct ReplicaWatchTests {
    private struct Replica {
        let shared: SharedStore
        let presence: ReplicaPresence
        let sessions = ClusterSessions(specificity: { _, host in host.specificity })
        let watch: ReplicaWatch
        private let tasks: [Task<Void, Never>]

        init(_ name: String, _ scratch: ScratchFolder) async throws {
            let logger = Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }
            shared = try await SharedStore.open(SharedStoreConfiguration(path: scratch.file("store")))
            presence = ReplicaPresence(shared: shared, name: name, version: "test", logger: logger)
            presence.update { $0.state = .active }
            watch = ReplicaWatch(shared: shared, presence: presence, sessions: sessions, logger: logger)
            let (presence, watch) = (presence, watch)
            tasks = [Task { await presence.run() }, Task { await watch.run() }]
            try await eventually("\(name) has joined") { presence.hasJoined }
        }

        /// Publishes an attachment that offers a host.
        func publish(_ host: String) async throws {
            let run = RunID(rawValue: 1)
            let info = AttachmentInfo(id: 1, tokenID: "t", agent: "demo", instance: "pod", run: run, number: 1)
            let record = SessionRecord(info, services: ["web"], hosts: [try HostPattern(host)])
            try presence.put(row: SessionRecord.key(1), record.value)
            try await presence.flush(within: .seconds(10))
        }

        func stop() {
            for task in tasks { task.cancel() }
            shared.close()
        }
    }

    private let scratch = ScratchFolder()

    @Test("The sessions of a replica that has left are forgotten, and are not learnt by one that starts afterwards")
    func left() async throws {
        let first = try await Replica("first", scratch)
        defer { first.stop() }
        let second = try await Replica("second", scratch)
        defer { second.stop() }
        try await first.publish("first.test")
        try await second.publish("second.test")
        try await eventually("the row is known") { second.sessions.counts.rows == 1 }
        // Its row stays in the journal.
        await first.presence.leave()
        try await eventually("the row is forgotten") { second.sessions.counts.rows == 0 }
        let third = try await Replica("third", scratch)
        defer { third.stop() }
        try await eventually("the row of the second is known") { third.sessions.index.find("second.test") != nil }
        try await eventually("the first has left") {
            third.watch.replicas.contains { $0.incarnation == first.presence.incarnation && $0.status?.state == .left }
        }
        // Rows follow the status in one reading of a replica. After two more polls they were read.
        try await third.publish("third.test")
        try await eventually("a later row") { second.sessions.index.find("third.test") != nil }
        #expect(third.sessions.index.find("first.test") == nil && third.sessions.counts.rows == 1)
    }
}
