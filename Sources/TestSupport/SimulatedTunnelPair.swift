package import NIOCore
package import Tunnel

/// Two tunnels joined by two simulated links, in virtual time. Every packet carries a checksum in the place of the
/// record's authentication tag, so that corrupted packets are dropped as DTLS drops them.
package final class SimulatedTunnelPair {
    package let client: TunnelConnection
    package let server: TunnelConnection
    package let up: SimulatedLink
    package let down: SimulatedLink
    package private(set) var now: NIODeadline
    /// Called with each event of a side; writes and reads happen here.
    package var onEvent: (TunnelConnection, TunnelEvent) -> Void = { _, _ in }
    /// The times at which the application is called again, apart from events.
    package var wakeUps: [(at: NIODeadline, body: () -> Void)] = []
    /// Largest number of packets that one burst may hold before the other side gets its turn.
    private let burst = 64
    private var scratch = [UInt8](repeating: 0, count: 2_048)

    package init(
        configuration: TunnelConfiguration = TunnelConfiguration(),
        serverConfiguration: TunnelConfiguration? = nil,
        up: LinkConditions = LinkConditions(),
        down: LinkConditions = LinkConditions(),
        maxPacketSize: Int = 1_163,
        seed: UInt64 = 1
    ) {
        let start = NIODeadline.uptimeNanoseconds(1_000_000_000)
        now = start
        var open = configuration
        open.startsAuthenticated = true
        client = TunnelConnection(
            role: .client,
            configuration: open,
            maxPacketSize: maxPacketSize,
            handshakeRTT: nil,
            now: start
        )
        var other = serverConfiguration ?? configuration
        other.startsAuthenticated = serverConfiguration?.startsAuthenticated ?? true
        server = TunnelConnection(
            role: .server,
            configuration: other,
            maxPacketSize: maxPacketSize,
            handshakeRTT: nil,
            now: start
        )
        self.up = SimulatedLink(conditions: up, seed: seed &* 2)
        self.down = SimulatedLink(conditions: down, seed: seed &* 2 &+ 1)
    }

    package func wake(after delay: TimeAmount, _ body: @escaping () -> Void) {
        wakeUps.append((now + delay, body))
    }

    /// Runs until `done` says so; false if `limit` of virtual time, or a great number of steps, passed before.
    package func run(for limit: TimeAmount, until done: () -> Bool) -> Bool {
        let end = now + limit
        var stepsAtOneTime = 0
        while true {
            settle()
            if done() { return true }
            guard let next = nextTime, next <= end else {
                now = end
                settle()
                return done()
            }
            stepsAtOneTime = next > now ? 0 : stepsAtOneTime + 1
            if stepsAtOneTime > 10_000 { return false }
            now = max(now, next)
            advance()
        }
    }

    private var nextTime: NIODeadline? {
        [
            up.nextArrival, down.nextArrival, client.pollTimeout(), server.pollTimeout(),
            wakeUps.map(\.at).min(),
        ].compactMap { $0 }.min()
    }

    private func advance() {
        while let bytes = up.receive(now: now) { deliver(bytes, to: server) }
        while let bytes = down.receive(now: now) { deliver(bytes, to: client) }
        for side in [client, server] where side.pollTimeout().map({ $0 <= now }) ?? false {
            side.handleTimeout(now: now)
        }
        let due = wakeUps.filter { $0.at <= now }
        wakeUps.removeAll { $0.at <= now }
        for wakeUp in due { wakeUp.body() }
    }

    private func deliver(_ bytes: [UInt8], to side: TunnelConnection) {
        let payload = bytes.dropLast(8)
        guard bytes.count > 8, Array(bytes.suffix(8)) == Self.checksum(payload) else { return }
        payload.withUnsafeBytes { side.handle(packet: $0, now: now) }
    }

    /// Events, then packets, until neither side has more.
    private func settle() {
        var goesOn = true
        while goesOn {
            goesOn = false
            for side in [client, server] {
                while let event = side.pollEvent() {
                    onEvent(side, event)
                    goesOn = true
                }
                let link = side === client ? up : down
                var packets = 0
                while packets < burst, let size = transmit(side) {
                    let payload = scratch[..<size]
                    link.send(payload + Self.checksum(payload), now: now)
                    packets += 1
                    goesOn = true
                }
            }
        }
    }

    private func transmit(_ side: TunnelConnection) -> Int? {
        scratch.withUnsafeMutableBytes { side.pollTransmit(now: now, into: $0) }
    }

    private static func checksum(_ bytes: ArraySlice<UInt8>) -> [UInt8] {
        var hash: UInt64 = 0xcbf2_9ce4_8422_2325
        for byte in bytes { hash = (hash ^ UInt64(byte)) &* 0x100_0000_01b3 }
        return withUnsafeBytes(of: hash.bigEndian, Array.init)
    }
}
