import DTLS
import NIOCore
import TestSupport
import Testing

@Suite("Handshake on a bad network")
struct LossyHandshakeTests {
    private static let seeds: UInt64 = 200

    private func simulate(
        seed: UInt64,
        _ network: LossySimulation.Network,
        identity: TestCertificate = TestPKI.server
    ) throws -> LossySimulation {
        var simulation = try LossySimulation(
            seed: seed,
            network: network,
            server: .testServer(identity),
            client: .testClient(),
            mtu: 600
        )
        simulation.run()
        return simulation
    }

    /// Checks that both ends are established, agree on the keys, and exchange records.
    private func check(_ simulation: LossySimulation, seed: UInt64) throws {
        let server = try #require(simulation.server, "seed \(seed)")
        #expect(
            simulation.client.state == .established,
            "seed \(seed): \(String(describing: simulation.client.failure))"
        )
        #expect(server.state == .established, "seed \(seed): \(String(describing: server.failure))")
        guard simulation.client.state == .established, server.state == .established else { return }
        #expect(simulation.serverSessions == 1, "seed \(seed)")
        let keys = [simulation.client, server].map { $0.exportKeyingMaterial(label: "EXPORTER-test", length: 16) }
        #expect(keys[0] == keys[1])
        var sent: Set<[UInt8]> = []
        var simulation = simulation
        let early = simulation.serverReads.count
        for index in 0..<100 {
            let message = [UInt8](repeating: UInt8(index), count: 500)
            sent.insert(message)
            simulation.send(try simulation.client.seal(message), toServer: true)
        }
        simulation.run()
        let reads = simulation.serverReads.dropFirst(early)
        // Each record at most once, and none that was not sent.
        #expect(Set(reads).count == reads.count)
        #expect(sent.isSuperset(of: reads))
        #expect(reads.count >= 25, "seed \(seed)")
    }

    @Test("Handshakes succeed with 20 % loss each way")
    func loss() throws {
        for seed in 0..<Self.seeds {
            try check(try simulate(seed: seed, .init(loss: 0.2, delay: 20...20)), seed: seed)
        }
    }

    @Test("Handshakes succeed with reordering within 150 ms")
    func reordering() throws {
        for seed in 0..<Self.seeds {
            try check(try simulate(seed: seed, .init(delay: 0...150)), seed: seed)
        }
    }

    @Test("Handshakes succeed when every second datagram arrives twice")
    func duplication() throws {
        for seed in 0..<Self.seeds {
            try check(try simulate(seed: seed, .init(duplication: 0.5, delay: 0...50)), seed: seed)
        }
    }

    @Test("Handshakes succeed with loss, reordering and duplicates at once, and a certificate of many datagrams")
    func everything() throws {
        for seed in 0..<Self.seeds {
            let network = LossySimulation.Network(loss: 0.1, duplication: 0.2, delay: 5...120)
            try check(try simulate(seed: seed, network, identity: TestPKI.large), seed: seed)
        }
    }

    @Test("At 60 % loss a handshake succeeds or both ends give up within ten seconds")
    func hopeless() throws {
        for seed in 0..<Self.seeds {
            let simulation = try simulate(seed: seed, .init(loss: 0.6, delay: 30...30))
            let ends = [simulation.client, simulation.server].compactMap { $0 }
            for end in ends where end.state != .established {
                #expect(end.state == .closed, "seed \(seed)")
                #expect(end.failure?.code == .handshakeTimeout, "seed \(seed): \(end.failure?.description ?? "")")
            }
            #expect(simulation.now <= start + .seconds(21))
        }
    }

    @Test("Corrupted datagrams end a handshake at most with a typed error, never agree on different keys")
    func corruption() throws {
        var established = 0
        for seed in 0..<Self.seeds {
            let simulation = try simulate(seed: seed, .init(loss: 0.05, corruption: 0.1, delay: 5...40))
            #expect(simulation.client.state != .handshaking, "seed \(seed)")
            guard simulation.client.state == .established, let server = simulation.server else {
                #expect(simulation.client.failure != nil, "seed \(seed)")
                continue
            }
            established += 1
            if server.state == .established {
                let keys = [simulation.client, server].map { $0.exportKeyingMaterial(label: "EXPORTER-x", length: 8) }
                #expect(keys[0] == keys[1], "seed \(seed)")
            }
        }
        #expect(established > 50)
    }
}
