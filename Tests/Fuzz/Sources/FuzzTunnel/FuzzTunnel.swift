import FuzzDriver
import NIOCore
import Tunnel

@_cdecl("FuzzTunnel_main")
public func fuzzTunnelMain(_ argc: CInt, _ argv: UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>?) -> CInt {
    fuzz(argc, argv) { start, count in
        var script = Script(UnsafeBufferPointer(start: start, count: count))
        script.run()
        return 0
    }
}

/// The actions of a hostile peer and a busy application on one tunnel. Each step is an operation byte and its operands.
/// Packets get the next packet number automatically, so that the fuzzer reaches the frames at once.
private struct Script {
    private let input: UnsafeBufferPointer<UInt8>
    private var position = 0
    private var now = NIODeadline.uptimeNanoseconds(1_000_000_000)
    private let tunnel: TunnelConnection
    private var nextNumber: UInt64 = 0
    private var scratch = [UInt8](repeating: 0, count: 2_048)
    private var streams: [StreamID] = [.control]

    init(_ input: UnsafeBufferPointer<UInt8>) {
        self.input = input
        var configuration = TunnelConfiguration()
        configuration.startsAuthenticated = true
        configuration.maxStreams = 16
        configuration.undrainedHardLimit = 256 << 10
        tunnel = TunnelConnection(
            role: input.first.map { $0 & 1 == 0 } ?? true ? .server : .client,
            configuration: configuration,
            maxPacketSize: 1_163,
            handshakeRTT: nil,
            now: now
        )
        position = 1
    }

    private mutating func byte() -> UInt8 {
        guard position < input.count else { return 0 }
        defer { position += 1 }
        return input[position]
    }

    private mutating func bytes(_ count: Int) -> [UInt8] {
        let end = min(input.count, position + count)
        defer { position = max(position, end) }
        return position < end ? Array(input[position..<end]) : []
    }

    mutating func run() {
        // The peer grants high limits, unless the script sends PARAMETERS first.
        if byte() & 1 == 0 {
            packet([0x20, 13, 0x04, 4, 0x8f, 0xff, 0xff, 0xff, 0x05, 2, 0x7f, 0xff, 0x08, 1, 0x20])
        }
        while position < input.count {
            step()
            settle()
        }
    }

    private mutating func step() {
        switch byte() & 0x0f {
        case 0...5: packet(bytes(Int(byte())))
        case 6:
            let raw = bytes(Int(byte()))
            raw.withUnsafeBytes { tunnel.handle(packet: $0, now: now) }
        case 7: now = now + .milliseconds(Int64(byte()))
        case 8:
            now = now + .seconds(Int64(byte() & 7))
            tunnel.handleTimeout(now: now)
        case 9: if let id = tunnel.openStream() { streams.append(id) }
        case 10: tunnel.write(stream(), ByteBuffer(repeating: 7, count: Int(byte()) * 64))
        case 11: tunnel.finish(stream())
        case 12: tunnel.reset(stream(), code: ApplicationErrorCode(rawValue: UInt64(byte())))
        case 13: tunnel.stopSending(stream(), code: ApplicationErrorCode(rawValue: UInt64(byte())))
        case 14: tunnel.consume(stream(), Int(byte()) * 16)
        default: nextNumber &+= UInt64(byte() & 3)
        }
    }

    private mutating func stream() -> StreamID { streams[Int(byte()) % streams.count] }

    private mutating func packet(_ frames: [UInt8]) {
        var packet = [UInt8](repeating: 0, count: 8)
        let number = nextNumber
        nextNumber += 1
        let length = packet.withUnsafeMutableBytes { raw in
            var writer = WireWriter(raw)
            writer.write(varInt: number)
            return writer.count
        }
        packet.removeLast(8 - length)
        (packet + frames).withUnsafeBytes { tunnel.handle(packet: $0, now: now) }
    }

    private mutating func settle() {
        while let event = tunnel.pollEvent() {
            switch event {
            case .streamOpened(let id): streams.append(id)
            case .readable(let id):
                while tunnel.read(id) != nil {}
                _ = tunnel.isFinished(id)
            default: break
            }
        }
        var packets = 0
        while scratch.withUnsafeMutableBytes({ tunnel.pollTransmit(now: now, into: $0) }) != nil {
            packets += 1
            precondition(packets < 20_000, "transmission never ends")
        }
        if let deadline = tunnel.pollTimeout(), deadline <= now { tunnel.handleTimeout(now: now) }
        precondition(tunnel.statistics.undrainedBytes <= 2 << 20, "memory beyond the budget")
    }
}
