import NIOCore
import TestSupport
import Testing
import Tunnel

@Suite("Recovery")
struct RecoveryTests {
    private static let start = NIODeadline.uptimeNanoseconds(1_000_000_000)

    /// Returns a pair that has exchanged PARAMETERS over a path of 10 ms each way.
    private func establishedPair(_ change: (LinkConditions) -> LinkConditions = { $0 }) -> SimulatedTunnelPair {
        var conditions = LinkConditions()
        conditions.delay = .milliseconds(10)
        conditions = change(conditions)
        let pair = SimulatedTunnelPair(up: conditions, down: conditions)
        #expect(pair.run(for: .seconds(10)) { pair.client.isEstablished && pair.server.isEstablished })
        _ = pair.run(for: .seconds(1)) { false }
        return pair
    }

    @Test("A lost tail is retransmitted after one PTO")
    func lostTail() {
        let pair = establishedPair()
        guard let id = pair.client.openStream() else {
            Issue.record("no stream")
            return
        }
        var arrived: ByteBuffer?
        pair.onEvent = { tunnel, event in
            if case .readable(let id) = event, tunnel === pair.server { arrived = tunnel.read(id) }
        }
        let sentAt = pair.now
        let timeout = pair.client.probeTimeout
        pair.up.conditions.blackouts = [sentAt..<(sentAt + .milliseconds(1))]
        pair.client.write(id, ByteBuffer(string: "tail"))
        #expect(pair.run(for: .seconds(5)) { arrived != nil })
        #expect(arrived.map { String(buffer: $0) } == "tail")
        #expect(pair.now - sentAt <= timeout + .milliseconds(11))
        #expect(pair.client.statistics.probeTimeouts == 1)
    }

    @Test("Probe timeouts back off while no packet arrives, and the tunnel ends at the idle timeout")
    func backOffAndIdle() {
        let pair = establishedPair()
        pair.up.conditions.loss = 1
        pair.client.write(.control, ByteBuffer(string: "hello"))
        var reason: TunnelCloseReason?
        pair.onEvent = { tunnel, event in
            if case .closed(let why) = event, tunnel === pair.client { reason = why }
        }
        let begin = pair.now
        #expect(pair.run(for: .seconds(120)) { reason != nil })
        #expect(reason == .idleTimeout)
        #expect((.seconds(29)...(.seconds(32))).contains(pair.now - begin))
        // Doubling from some 50 ms reaches 30 s in about ten steps; a fixed interval would need hundreds.
        #expect((5...14).contains(pair.client.statistics.probeTimeouts))
    }

    @Test("A peer that sends but never acknowledges is dead after the idle timeout")
    func neverAcknowledges() {
        let tunnel = TunnelConnection(
            role: .server,
            configuration: TunnelConfiguration(),
            maxPacketSize: 1_163,
            handshakeRTT: nil,
            now: Self.start
        )
        var buffer = [UInt8](repeating: 0, count: 2_048)
        var number: UInt16 = 0
        var closedAfter: TimeAmount?
        var now = Self.start
        while closedAfter == nil, now - Self.start < .seconds(120) {
            // A two-byte packet number and PING.
            [UInt8(number >> 8) | 0x40, UInt8(truncatingIfNeeded: number), 0x01].withUnsafeBytes {
                tunnel.handle(packet: $0, now: now)
            }
            number += 1
            if let deadline = tunnel.pollTimeout(), deadline <= now { tunnel.handleTimeout(now: now) }
            while let event = tunnel.pollEvent() {
                if case .closed(let reason) = event {
                    #expect(reason == .idleTimeout)
                    closedAfter = now - Self.start
                }
            }
            while buffer.withUnsafeMutableBytes({ tunnel.pollTransmit(now: now, into: $0) }) != nil {}
            now = now + .milliseconds(100)
        }
        #expect(
            closedAfter.map { (.seconds(30)...(.seconds(32))).contains($0) } ?? false,
            "\(String(describing: closedAfter))"
        )
    }

    @Test("A keep-alive holds an idle tunnel open")
    func keepAlive() {
        let pair = establishedPair()
        pair.client.keepAliveInterval = .seconds(5)
        var closed = false
        pair.onEvent = { _, event in if case .closed = event { closed = true } }
        _ = pair.run(for: .minutes(10)) { closed }
        #expect(!closed)
        pair.client.keepAliveInterval = nil
        #expect(pair.run(for: .minutes(2)) { closed })
    }

    @Test("Silence is detected while something is in flight, and only then")
    func silence() {
        let pair = establishedPair()
        _ = pair.run(for: .seconds(5)) { false }
        #expect(!pair.client.isSilent(now: pair.now))
        pair.up.conditions.loss = 1
        pair.client.ping(now: pair.now)
        _ = pair.run(for: .milliseconds(900)) { false }
        #expect(!pair.client.isSilent(now: pair.now))
        _ = pair.run(for: .milliseconds(300)) { false }
        #expect(pair.client.isSilent(now: pair.now))
    }

    @Test("The round trip is measured without the peer's ack delay")
    func roundTrip() {
        let pair = establishedPair()
        for _ in 0..<20 {
            pair.client.ping(now: pair.now)
            _ = pair.run(for: .milliseconds(100)) { false }
        }
        let rtt = pair.client.statistics.rtt
        #expect((.milliseconds(19)...(.milliseconds(24))).contains(rtt), "\(rtt)")
    }

    @Test("CONNECTION_CLOSE reaches the peer with its code and reason, and both ends close")
    func close() {
        let pair = establishedPair()
        var reasons: [TunnelCloseReason] = []
        pair.onEvent = { _, event in if case .closed(let reason) = event { reasons.append(reason) } }
        pair.client.close(code: .authFailed, reason: "wrong token", now: pair.now)
        #expect(pair.run(for: .seconds(5)) { pair.client.isClosed && pair.server.isClosed })
        #expect(
            reasons == [
                .local(code: .authFailed, reason: "wrong token"), .peer(code: .authFailed, reason: "wrong token"),
            ]
        )
    }

    @Test("Data that arrived before the peer closed can still be read")
    func lastWords() {
        let pair = establishedPair()
        var packets: [[UInt8]] = []
        var buffer = [UInt8](repeating: 0, count: 2_048)
        pair.server.write(.control, ByteBuffer(string: "go away"))
        for isClosing in [false, true] {
            if isClosing { pair.server.close(code: .authFailed, reason: "", now: pair.now) }
            while let size = buffer.withUnsafeMutableBytes({ pair.server.pollTransmit(now: pair.now, into: $0) }) {
                packets.append(Array(buffer[..<size]))
            }
        }
        for packet in packets { packet.withUnsafeBytes { pair.client.handle(packet: $0, now: pair.now) } }
        var text = ""
        var events: [TunnelEvent] = []
        while let event = pair.client.pollEvent() {
            events.append(event)
            if event == .readable(.control) {
                while let bytes = pair.client.read(.control) { text += String(buffer: bytes) }
            }
        }
        #expect(text == "go away")
        #expect(events == [.readable(.control), .closed(.peer(code: .authFailed, reason: ""))])
    }

    @Test("The streams of which nothing was sent are known after the end")
    func neverSent() {
        let pair = establishedPair()
        guard let sent = pair.client.openStream(), let unsent = pair.client.openStream() else { return }
        pair.client.write(sent, ByteBuffer(string: "x"))
        _ = pair.run(for: .milliseconds(100)) { false }
        pair.client.write(unsent, ByteBuffer(string: "y"))
        pair.server.close(code: .noError, reason: "", now: pair.now)
        pair.up.conditions.loss = 1
        pair.client.close(code: .noError, reason: "", now: pair.now)
        #expect(pair.client.sentAnyByte(sent))
        #expect(!pair.client.sentAnyByte(unsent))
    }

    @Test("A lost CONNECTION_CLOSE is repeated when the peer still sends")
    func closeIsRepeated() {
        let pair = establishedPair()
        var peerClosed = false
        pair.onEvent = { tunnel, event in if case .closed = event, tunnel === pair.server { peerClosed = true } }
        pair.up.conditions.blackouts = [pair.now..<(pair.now + .milliseconds(2))]
        pair.client.close(code: .noError, reason: "", now: pair.now)
        _ = pair.run(for: .milliseconds(3)) { false }
        pair.server.ping(now: pair.now)
        #expect(pair.run(for: .seconds(1)) { peerClosed })
    }

    @Test("The throughput of a path without loss comes near its rate")
    func fillsThePipe() {
        let pair = establishedPair {
            var path = $0
            path.rate = 2_500_000
            path.queue = 100_000
            return path
        }
        var sink: BodySink?
        var source: BodySource?
        pair.onEvent = { tunnel, event in
            switch event {
            case .streamOpened(let id): sink = BodySink(key: id.rawValue)
            case .writable: source?.pump()
            case .readable(let id):
                while let bytes = tunnel.read(id) {
                    sink?.receive(bytes)
                    tunnel.consume(id, bytes.readableBytes)
                }
                sink?.isFinished = tunnel.isFinished(id)
            default: break
            }
        }
        guard let id = pair.client.openStream() else { return }
        source = BodySource(pair.client, id, key: id.rawValue, size: 20 << 20)
        source?.pump()
        let begin = pair.now
        #expect(pair.run(for: .seconds(60)) { sink?.isFinished ?? false })
        let rate = Double(20 << 20) / (Double((pair.now - begin).nanoseconds) / 1e9)
        #expect(rate > 0.75 * 2_500_000, "\(rate) bytes a second; \(pair.client.statistics)")
        #expect(sink?.isCorrect ?? false)
    }

    @Test("Packets that precede more data are full, so that a burst can leave in one GSO call")
    func burstsAreFull() {
        let pair = establishedPair()
        guard let id = pair.client.openStream() else { return }
        pair.client.write(id, body(1, 0..<9_000))
        var sizes: [Int] = []
        var buffer = [UInt8](repeating: 0, count: 2_048)
        while let size = buffer.withUnsafeMutableBytes({ pair.client.pollTransmit(now: pair.now, into: $0) }) {
            sizes.append(size)
        }
        #expect(sizes.count == 8)
        #expect(sizes.dropLast().allSatisfy { $0 == 1_163 })
    }
}
