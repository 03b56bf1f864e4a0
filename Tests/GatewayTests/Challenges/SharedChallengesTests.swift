import ACME
import Certificates
import Cluster
import Formats
import FoundationEssentials
import Gateway
import NIOCore
import Store
import TestSupport
import Testing

@Suite("Challenges shared by replicas", .serialized, .timeLimit(.minutes(2)))
struct SharedChallengesTests {
    private let scratch = ScratchFolder()

    @Test("A challenge that was presented on one gateway is answered by all")
    func cluster() async throws {
        try await ClusterRig.with(3) { rig in
            let clock = ContinuousClock()
            for round in 0..<4 {
                let token = newToken()
                let tasks = [
                    try challenge(token), try challenge(newToken(), .tlsALPN01, name: "r\(round).test"),
                    try challenge(newToken(), .dns01),
                ]
                let presenter = try #require(rig.gateways[round % 3].presenter)
                let took = try await clock.measure { try await presenter.present(tasks) }
                print("NOTE 3 gateways settled in \(took)")
                #expect(took < .seconds(3))
                for gateway in rig.gateways {
                    // Known before the first request: every replica has acknowledged it.
                    #expect(gateway.challenges.names.map(\.description) == ["r\(round).test"])
                    #expect(try await gateway.validate(token, host: "any.test").body == "\(token).\(thumbprint)")
                }
                await presenter.withdraw(tasks)
                for gateway in rig.gateways {
                    try await eventually("the end of the challenge") {
                        try await gateway.validate(token).status == 404 && gateway.challenges.names.isEmpty
                    }
                }
            }
        }
    }

    @Test("A gateway that has not polled a challenge yet finds it in the store")
    func onDemand() async throws {
        try await ClusterRig.with(1) { rig in
            let token = newToken()
            let (store, cluster) = try await VolumeStore.openFounded(path: rig.folder + "/v2", mounted: nil)
            defer { store.close() }
            let task = try challenge(token)
            try await store.write(task.storeKey, .create(task.sealed(with: cluster.keyring.signing)))
            #expect(try await rig.gateways[0].validate(token).status == 200)
        }
    }

    @Test("Eight replicas settle well before the limit")
    func eight() async throws {
        let folder = scratch.file("data")
        var replicas: [ReplicaRig] = []
        for _ in 0..<8 { replicas.append(try await ReplicaRig(folder)) }
        defer { for replica in replicas { replica.stop() } }
        for replica in replicas { try await replica.knows(7) }
        for round in 0..<3 {
            let task = try challenge(newToken(), name: "r\(round).test")
            let took = try await ContinuousClock().measure { try await replicas[round].challenges.present([task]) }
            print("NOTE 8 replicas settled in \(took)")
            #expect(took < .seconds(3))
        }
    }

    @Test("A live replica that has not seen a challenge is awaited until the limit; a single replica waits for none")
    func late() async throws {
        let folder = scratch.file("data")
        let clock = ContinuousClock()
        let first = try await ReplicaRig(folder)
        defer { first.stop() }
        let alone = try await clock.measure { try await first.challenges.present([try challenge(newToken())]) }
        #expect(alone < .seconds(1))
        let deaf = try await ReplicaRig(folder, observes: false)
        defer { deaf.stop() }
        try await first.knows(1)
        let began = clock.now
        #expect(await first.watch.waitUntilSeen(within: .milliseconds(1_500)) == [deaf.presence.incarnation])
        #expect(clock.now - began >= .milliseconds(1_500) && clock.now - began < .seconds(3))
        // A replica that has left is not awaited.
        await deaf.presence.leave()
        #expect(await first.watch.waitUntilSeen(within: .seconds(10)) == [])
        #expect(clock.now - began < .seconds(9))
    }

    @Test("More than 2,048 challenges, live and removed, are no obstacle")
    func many() async throws {
        let folder = scratch.file("data")
        let first = try await ReplicaRig(folder)
        defer { first.stop() }
        // Written directly, to avoid five fsyncs for each.
        let signing = first.shared.keyring.signing
        let prefix = "\(folder)/v2/\(ChallengeTask.prefix)"
        let mode: [FileAttributeKey: Any] = [.posixPermissions: 0o700]
        try FileManager.default.createDirectory(atPath: prefix, withIntermediateDirectories: true, attributes: mode)
        func write(_ task: ChallengeTask, isRemoved: Bool) throws {
            let path = "\(folder)/v2/\(task.storeKey)"
            try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: false, attributes: mode)
            let bytes = storedFile(isRemoved ? [] : task.sealed(with: signing), isRemoved: isRemoved)
            let isMade = FileManager.default.createFile(
                atPath: path + "/2.json",
                contents: Data(bytes),
                attributes: [.posixPermissions: 0o600]
            )
            try #require(isMade)
        }
        let live = try (0..<2_100).map { try challenge("live\($0)") }
        for task in live { try write(task, isRemoved: false) }
        for number in 0..<2_100 { try write(try challenge("removed\(number)"), isRemoved: true) }
        let second = try await ReplicaRig(folder)
        defer { second.stop() }
        try await first.knows(1)
        try await eventually("all are known", within: .seconds(60)) {
            [first, second].allSatisfy { rig in live.allSatisfy { rig.challenges.pending.http($0.token) != nil } }
        }
        let tasks = try (0..<3).map { try challenge(newToken(), name: "n\($0).test") }
        try await first.challenges.present(tasks)
        #expect(tasks.allSatisfy { second.challenges.pending.http($0.token) != nil })
        await first.challenges.withdraw(tasks)
        try await eventually("the withdrawal") { tasks.allSatisfy { second.challenges.pending.http($0.token) == nil } }
    }

    @Test("With the store in memory a challenge is presented at once")
    func memory() async throws {
        let replica = try await ReplicaRig(nil)
        defer { replica.stop() }
        let tasks = [try challenge(newToken()), try challenge(newToken(), .tlsALPN01)]
        let took = try await ContinuousClock().measure { try await replica.challenges.present(tasks) }
        #expect(took < .seconds(1))
        #expect(replica.alpn.names.count == 1)
        await replica.challenges.withdraw(tasks)
        #expect(replica.alpn.names.isEmpty)
        #expect(try await replica.shared.store.readAll(ChallengeTask.prefix).isEmpty)
    }

    @Test("A challenge that a successor presents again is not removed by its predecessor, and may be presented again")
    func successor() async throws {
        let folder = scratch.file("data")
        let (first, second) = (try await ReplicaRig(folder), try await ReplicaRig(folder))
        defer {
            first.stop()
            second.stop()
        }
        let task = try challenge(newToken(), .tlsALPN01)
        try await first.challenges.present([task])
        try await second.challenges.present([task])
        await first.challenges.withdraw([task])
        #expect(
            try await first.shared.store.read(task.storeKey).bytes
                == task.sealed(with: first.shared.keyring.signing)
        )
        try await eventually("both answer it") { first.alpn.names == [task.name] && second.alpn.names == [task.name] }
        await second.challenges.withdraw([task])
        try await eventually("neither answers it") { first.alpn.names.isEmpty && second.alpn.names.isEmpty }
        // The order was interrupted and continues with the same token.
        try await first.challenges.present([task])
        #expect(first.alpn.names == [task.name] && second.alpn.names == [task.name])
        // A replica that has not presented it can withdraw it too.
        await second.challenges.withdraw([task])
        try await eventually("neither answers it") { first.alpn.names.isEmpty && second.alpn.names.isEmpty }
    }

    @Test("Forged values in the folder are never served and logged once; others are served")
    func forged() async throws {
        let log = try TestLog()
        try await ClusterRig.with(1, log: log) { rig in
            let gateway = rig.gateways[0]
            let (store, cluster) = try await VolumeStore.openFounded(path: rig.folder + "/v2", mounted: nil)
            defer { store.close() }
            let signing = cluster.keyring.signing
            let forged = try challenge(newToken())
            var fields = challengeFields(forged.token)
            fields["key_authorization"] = .string("<html>")
            let edited = SealedDocument.seal(fields.json, .challenge, context: forged.storeKey.path, with: signing)
            try await store.write(forged.storeKey, .create(edited))
            let other = newToken()
            try await store.write(ChallengeTask.storeKey(token: other), .create(forged.sealed(with: signing)))
            /// Adds a value in one step, since the gateway polls.
            func plant(_ bytes: [UInt8], at key: StoreKey, mode: Int) throws {
                let folder = "\(rig.folder)/planted"
                try FileManager.default.createDirectory(
                    atPath: folder,
                    withIntermediateDirectories: false,
                    attributes: [.posixPermissions: 0o700]
                )
                let isMade = FileManager.default.createFile(
                    atPath: folder + "/1.json",
                    contents: Data(bytes),
                    attributes: [.posixPermissions: mode]
                )
                #expect(isMade)
                try FileManager.default.moveItem(atPath: folder, toPath: "\(rig.folder)/v2/\(key)")
            }
            let large = newToken()
            try plant(Array(repeating: 0x20, count: 2 << 20), at: ChallengeTask.storeKey(token: large), mode: 0o600)
            let open = try challenge(newToken())
            try plant(storedFile(open.sealed(with: signing)), at: open.storeKey, mode: 0o666)
            let good = try challenge(newToken(), .tlsALPN01, name: "good.test")
            try await #require(gateway.presenter).present([good])
            // Three of one batch have a line each, and the fourth is counted in another one.
            try await eventually("four warnings") { try log.lines.count { $0.contains("unusable") } == 4 }
            for token in [forged.token, other, large, open.token] {
                #expect(try await gateway.validate(token).status == 404)
            }
            #expect(gateway.challenges.names == [good.name])
            // Two polls later nothing was logged again.
            let again = try challenge(newToken(), .tlsALPN01, name: "again.test")
            for _ in 0..<2 { try await #require(gateway.presenter).present([again]) }
            #expect(try log.lines.count { $0.contains("unusable") } == 4)
        }
    }

    @Test("A store that accepts no challenge causes an error with the name")
    func failing() async throws {
        let folder = scratch.file("data")
        let replica = try await ReplicaRig(folder)
        defer { replica.stop() }
        // In one step, since the replica keeps writing.
        try FileManager.default.moveItem(atPath: folder, toPath: folder + "-gone")
        let task = try challenge(newToken(), name: "app.test")
        do {
            try await replica.challenges.present([task])
            Issue.record("was presented")
        } catch {
            #expect("\(error)".contains("http-01 challenge for app.test cannot be shared"), "\(error)")
        }
        await replica.challenges.withdraw([task])
    }
}
