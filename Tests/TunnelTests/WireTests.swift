import NIOCore
import TestSupport
import Testing
import Tunnel

@Suite("Packets and frames")
struct WireTests {
    @Test(
        "Integers take the shortest form and survive the round trip",
        arguments: [0, 1, 63, 64, 16_383, 16_384, (1 << 30) - 1, 1 << 30, VarInt.max] as [UInt64]
    )
    func varInts(value: UInt64) throws {
        var bytes = [UInt8](repeating: 0xff, count: 8)
        let count = bytes.withUnsafeMutableBytes { raw in
            var writer = WireWriter(raw)
            writer.write(varInt: value)
            return writer.count
        }
        #expect(count == VarInt.length(value))
        let decoded = try bytes[..<count].withUnsafeBytes { raw in
            var reader = WireReader(raw)
            return try reader.readVarInt()
        }
        #expect(decoded == value)
        for cut in 0..<count {
            bytes[..<cut].withUnsafeBytes { raw in
                var reader = WireReader(raw)
                #expect(throws: TunnelError.self) { try reader.readVarInt() }
            }
        }
    }

    /// Returns the reason with which a fresh server closes when it receives the packet.
    private func reason(for packet: [UInt8]) -> TunnelCloseReason? {
        let start = NIODeadline.uptimeNanoseconds(1_000_000_000)
        var configuration = TunnelConfiguration()
        configuration.startsAuthenticated = true
        configuration.maxStreams = 4
        let tunnel = TunnelConnection(
            role: .server,
            configuration: configuration,
            maxPacketSize: 1_163,
            handshakeRTT: nil,
            now: start
        )
        packet.withUnsafeBytes { tunnel.handle(packet: $0, now: start) }
        while let event = tunnel.pollEvent() {
            if case .closed(let reason) = event { return reason }
        }
        return nil
    }

    private func code(for packet: [UInt8]) -> TunnelError.Code? {
        guard case .violation(let error) = reason(for: packet) else { return nil }
        return error.code
    }

    @Test(
        "Reserved and unknown frame types close the tunnel",
        arguments: [0x03, 0x06, 0x07, 0x13, 0x17, 0x18, 0x19, 0x1a, 0x1b, 0x1e, 0x1f, 0x21, 0x30, 0x31, 0x3f] as [UInt8]
    )
    func reservedTypes(type: UInt8) {
        #expect(code(for: [0, type, 0, 0, 0, 0]) == .protocolViolation)
    }

    @Test("A frame that a peer must not send closes the tunnel with a typed error")
    func violations() {
        #expect(code(for: []) == .protocolViolation)
        #expect(code(for: [0]) == .protocolViolation, "no frames")
        #expect(code(for: [0, 0x02, 5, 0, 0, 0]) == .protocolViolation, "ACK of what was never sent")
        #expect(code(for: [0, 0x02, 1, 0, 0, 9]) == .protocolViolation, "ACK below zero")
        #expect(code(for: [0, 0x0a, 6, 1, 1]) == .protocolViolation, "unidirectional stream")
        #expect(code(for: [0, 0x0a, 1, 1, 1]) == .protocolViolation, "our own stream, never opened")
        #expect(code(for: [0, 0x0a, 20, 1, 1]) == .protocolViolation, "beyond MAX_STREAMS")
        #expect(code(for: [0, 0x0b, 0, 1, 1]) == .protocolViolation, "FIN on stream 0")
        #expect(code(for: [0, 0x04, 0, 0, 0]) == .protocolViolation, "RESET_STREAM on stream 0")
        #expect(code(for: [0, 0x05, 0, 0]) == .protocolViolation, "STOP_SENDING on stream 0")
        #expect(code(for: [0, 0x0e, 4, 0x80, 1, 0, 0, 1, 1]) == .flowControl, "offset beyond the window")
        #expect(code(for: [0, 0x0b, 4, 1, 1, 0x0a, 4, 2, 1, 1]) == .finalSize, "bytes beyond FIN")
        #expect(code(for: [0, 0x0a, 4, 2, 1, 1, 0x04, 4, 0, 1]) == .finalSize, "final size below what was sent")
        #expect(code(for: [0, 0x20, 2, 0x01, 9]) == .protocolViolation, "PARAMETERS cut short")
        #expect(code(for: [0, 0x20, 6, 0x41, 1, 0, 0x41, 1, 0]) == .protocolViolation, "a parameter twice")
        #expect(code(for: [0, 0x20, 0, 0x20, 3, 0x41, 1, 1]) == .protocolViolation, "PARAMETERS with other values")
        #expect(
            reason(for: [0, 0x1d, 7, 2, 0x68, 0x69]) == .peer(code: ApplicationErrorCode(rawValue: 7), reason: "hi")
        )
    }

    @Test("Unknown parameters are ignored and repeats accepted")
    func parameters() {
        #expect(reason(for: [0, 0x20, 4, 0x3f, 2, 9, 9, 0x20, 4, 0x3f, 2, 9, 9]) == nil)
    }

    @Test("A duplicate packet is dropped and counted")
    func duplicates() {
        let start = NIODeadline.uptimeNanoseconds(1_000_000_000)
        let tunnel = TunnelConnection(
            role: .server,
            configuration: TunnelConfiguration(),
            maxPacketSize: 1_163,
            handshakeRTT: nil,
            now: start
        )
        for number: UInt8 in [3, 3, 1, 5, 1, 2, 5, 4, 2] {
            [number, 0x01].withUnsafeBytes { tunnel.handle(packet: $0, now: start) }
        }
        #expect(tunnel.statistics.packetsReceived == 5)
        #expect(tunnel.statistics.duplicatePackets == 4)
    }

    @Test("Random and mutated packets never trap and never hang", arguments: 0..<50)
    func hostileBytes(seed: Int) {
        var generator = SeededGenerator(seed: UInt64(seed))
        let start = NIODeadline.uptimeNanoseconds(1_000_000_000)
        var buffer = [UInt8](repeating: 0, count: 2_048)
        for _ in 0..<200 {
            var configuration = TunnelConfiguration()
            configuration.startsAuthenticated = true
            let peer = TunnelConnection(
                role: .client,
                configuration: configuration,
                maxPacketSize: 1_163,
                handshakeRTT: nil,
                now: start
            )
            let tunnel = TunnelConnection(
                role: .server,
                configuration: configuration,
                maxPacketSize: 1_163,
                handshakeRTT: nil,
                now: start
            )
            peer.write(.control, body(0, 0..<3_000))
            while let size = buffer.withUnsafeMutableBytes({ peer.pollTransmit(now: start, into: $0) }) {
                var packet = Array(buffer[..<size])
                for _ in 0..<Int.random(in: 0...4, using: &generator) {
                    packet[Int.random(in: 0..<size, using: &generator)] = UInt8.random(in: 0...255, using: &generator)
                }
                packet.removeLast(Int.random(in: 0..<size, using: &generator) / 4)
                packet.withUnsafeBytes { tunnel.handle(packet: $0, now: start) }
                let noise = (0..<Int.random(in: 0...64, using: &generator)).map { _ in
                    UInt8.random(in: 0...63, using: &generator)
                }
                noise.withUnsafeBytes { tunnel.handle(packet: $0, now: start) }
            }
            while tunnel.pollEvent() != nil {}
            var packets = 0
            while buffer.withUnsafeMutableBytes({ tunnel.pollTransmit(now: start, into: $0) }) != nil { packets += 1 }
            #expect(packets <= 64)
        }
    }
}
