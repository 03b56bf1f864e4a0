import DTLS
import NIOCore

/// A client and a gateway's socket with listener and demultiplexer, joined by a network that loses, duplicates, delays
/// and corrupts, in virtual time. The same seed gives the same run.
struct LossySimulation {
    struct Network {
        var loss = 0.0
        var duplication = 0.0
        var corruption = 0.0
        var delay: ClosedRange<Int64> = 1...1
    }

    private struct Event {
        var at: NIODeadline
        var order: Int
        var toServer: Bool
        var datagram: [UInt8]
    }

    let network: Network
    let client: DTLSSession
    private let listener: DTLSListener
    private(set) var server: DTLSSession?
    private(set) var serverSessions = 0
    private(set) var now = start
    private(set) var serverReads: [[UInt8]] = []
    private(set) var clientReads: [[UInt8]] = []
    private var random: SeededRandom
    private var events: [Event] = []
    private var sent = 0

    init(seed: UInt64, network: Network, server: DTLSContext, client: DTLSContext, mtu: Int) throws {
        self.network = network
        random = SeededRandom(seed: seed)
        listener = DTLSListener(context: server, secret: DTLSCookieSecret(), mtu: mtu)
        self.client = try DTLSSession(client: client, serverName: "localhost", mtu: mtu, now: start)
    }

    mutating func send(_ datagram: [UInt8], toServer: Bool) {
        for _ in 0..<(random.chance(network.duplication) ? 2 : 1) where !random.chance(network.loss) {
            var datagram = datagram
            if random.chance(network.corruption) {
                datagram[Int.random(in: datagram.indices, using: &random)] ^= UInt8.random(in: 1...255, using: &random)
            }
            let delay = TimeAmount.milliseconds(Int64.random(in: network.delay, using: &random))
            events.append(Event(at: now + delay, order: sent, toServer: toServer, datagram: datagram))
            sent += 1
        }
    }

    /// Runs until no datagram is under way and no timer is set, or until `done`.
    mutating func run(until done: (LossySimulation) -> Bool = { _ in false }) {
        for _ in 0..<100_000 where !done(self) {
            flush()
            let next = events.indices.min { (events[$0].at, events[$0].order) < (events[$1].at, events[$1].order) }
            let timeout = [client.pollTimeout(), server?.pollTimeout()].compactMap { $0 }.min()
            if let next, timeout.map({ events[next].at <= $0 }) ?? true {
                let event = events.remove(at: next)
                now = max(now, event.at)
                deliver(event)
            } else if let timeout {
                now = max(now, timeout)
                client.handleTimeout(now: now)
                server?.handleTimeout(now: now)
            } else {
                return
            }
        }
    }

    private mutating func flush() {
        for datagram in client.transmitAll() { send(datagram, toServer: true) }
        for datagram in listener.transmitAll() { send(datagram, toServer: false) }
        for datagram in server?.transmitAll() ?? [] { send(datagram, toServer: false) }
    }

    private mutating func deliver(_ event: Event) {
        guard event.toServer else {
            client.handle(event.datagram, now: now)
            clientReads += client.readAll()
            return
        }
        let known = DTLSDemultiplexer.Sessions(
            pending: server?.clientRandom,
            isPendingSecured: server?.state == .established
        )
        switch DTLSDemultiplexer.destination(of: .classify(event.datagram), sessions: known) {
        case .listener:
            if case .session(let session) = listener.handle(event.datagram, peer: [1, 2, 3], now: now) {
                server = session
                serverSessions += 1
            }
        case .pending:
            server?.handle(event.datagram, now: now)
            serverReads += server?.readAll() ?? []
        case .drop, .unknownSession:
            break
        case .established, .pendingThenEstablished:
            fatalError("there is no established session in this simulation")
        }
    }
}

extension LossySimulation.Network {
    /// Whether the network only does what real networks do. Corruption may also forge a handshake message.
    var isFaithful: Bool { corruption == 0 }
}
