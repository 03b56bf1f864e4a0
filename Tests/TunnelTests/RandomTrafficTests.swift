import NIOCore
import TestSupport
import Testing
import Tunnel

private let seedCount = testSeeds(default: 100)

@Suite("Random traffic over random networks")
struct RandomTrafficTests {
    @Test("Every stream's bytes arrive intact and once, or the stream is reset with a reason", arguments: 0..<seedCount)
    func bytesArriveIntact(seed: Int) {
        let world = RandomTraffic(seed: UInt64(seed))
        let finished = world.run()
        #expect(finished, "hung: \(world.summary)")
        #expect(world.failures.isEmpty, "\(world.failures.prefix(3)) \(world.summary)")
        #expect(world.peakUndrained <= world.undrainedBound, "memory beyond the windows")
    }
}

/// A random network, random streams from both sides, random resets and stops.
private final class RandomTraffic {
    private var generator: SeededGenerator
    private let pair: SimulatedTunnelPair
    private var sources: [Key: BodySource] = [:]
    private var sinks: [Key: BodySink] = [:]
    private var finals: [Key: Final] = [:]
    private var opened = 0
    private let planned: Int
    private var established = 0
    private var pending: [Key: [ByteBuffer]] = [:]
    private(set) var failures: [String] = []
    private(set) var peakUndrained: UInt64 = 0
    let undrainedBound: UInt64
    private let seed: UInt64

    private struct Key: Hashable {
        var isClient: Bool
        var stream: StreamID
    }
    private enum Final { case complete, reset }

    init(seed: UInt64) {
        self.seed = seed
        generator = SeededGenerator(seed: seed)
        var configuration = TunnelConfiguration()
        configuration.maxStreams = UInt64.random(in: 2...64, using: &generator)
        // Blackouts of seconds must not end the tunnel in this test.
        configuration.idleTimeout = .seconds(600)
        pair = SimulatedTunnelPair(
            configuration: configuration,
            up: Self.conditions(&generator),
            down: Self.conditions(&generator),
            seed: seed
        )
        planned = Int.random(in: 1...40, using: &generator)
        undrainedBound = min(
            UInt64(planned * 2) * configuration.maximumStreamWindow,
            configuration.undrainedHardLimit + configuration.maximumStreamWindow
        )
        pair.onEvent = { [unowned self] tunnel, event in handle(tunnel, event) }
    }

    private static func conditions(_ generator: inout SeededGenerator) -> LinkConditions {
        var result = LinkConditions()
        result.loss = generator.chance(0.3) ? 0 : Double.random(in: 0...0.3, using: &generator)
        result.duplication = generator.chance(0.5) ? 0 : Double.random(in: 0...0.1, using: &generator)
        result.reordering = generator.chance(0.3) ? 0 : Double.random(in: 0...0.3, using: &generator)
        result.reorderingDelay = .milliseconds(Int64.random(in: 1...50, using: &generator))
        result.corruption = generator.chance(0.5) ? 0 : Double.random(in: 0...0.05, using: &generator)
        result.delay = .microseconds(Int64.random(in: 0...300_000, using: &generator))
        if generator.chance(0.5) {
            result.rate = Double.random(in: 50_000...20_000_000, using: &generator)
            result.queue = Int.random(in: 8_000...500_000, using: &generator)
        }
        if generator.chance(0.3) {
            let start =
                NIODeadline.uptimeNanoseconds(1_000_000_000)
                + .milliseconds(Int64.random(in: 0...5_000, using: &generator))
            result.blackouts = [start..<(start + .milliseconds(Int64.random(in: 100...8_000, using: &generator)))]
        }
        return result
    }

    func run() -> Bool {
        let done = pair.run(for: .minutes(60)) { [unowned self] in
            peakUndrained = max(
                peakUndrained,
                pair.client.statistics.undrainedBytes,
                pair.server.statistics.undrainedBytes
            )
            return !failures.isEmpty || (opened == planned && finals.count == 2 * planned)
        }
        return done
    }

    var summary: String {
        let missing = sinks.filter { finals[$0.key] == nil }.map { key, sink in
            let source = sources[Key(isClient: !key.isClient, stream: key.stream)]
            return "\(key.stream) \(sink.received) of \(source?.written ?? -1)/\(source?.size ?? -1)"
        }
        return "\(base) missing \(missing)"
    }

    private var base: String {
        "seed \(seed): \(opened)/\(planned) opened, \(finals.count) of \(2 * planned) ends, "
            + "\(pair.client.statistics) \(pair.server.statistics)"
    }

    // MARK: Application

    private func handle(_ tunnel: TunnelConnection, _ event: TunnelEvent) {
        let isClient = tunnel === pair.client
        switch event {
        case .established:
            established += 1
            if established == 2 { openMore() }
        case .streamOpened(let id):
            let key = Key(isClient: isClient, stream: id)
            sinks[key] = BodySink(key: id.rawValue)
            startSource(tunnel, key, bodyKey: id.rawValue + 1_000_000)
        case .readable(let id):
            read(tunnel, Key(isClient: isClient, stream: id))
        case .writable(let id):
            sources[Key(isClient: isClient, stream: id)]?.pump()
        case .reset(let id, let code):
            let key = Key(isClient: isClient, stream: id)
            sinks[key]?.resetCode = code
            if code.rawValue != 77 { failures.append("\(key): reset with code \(code)") }
            finals[key] = .reset
        case .stopSending(let id, _):
            sources[Key(isClient: isClient, stream: id)]?.isStopped = true
        case .streamClosed: openMore()
        case .closed(let reason): failures.append("the tunnel closed: \(reason)")
        }
    }

    private func openMore() {
        while opened < planned {
            let opener = generator.chance(0.5) ? pair.client : pair.server
            guard let id = opener.openStream() else {
                // MAX_STREAMS: openMore() runs again when a stream has closed; the other side may still have room.
                pair.wake(after: .milliseconds(100)) { [unowned self] in openMore() }
                return
            }
            opened += 1
            let key = Key(isClient: opener === pair.client, stream: id)
            sinks[key] = BodySink(key: id.rawValue + 1_000_000)
            startSource(opener, key, bodyKey: id.rawValue)
        }
    }

    private func startSource(_ tunnel: TunnelConnection, _ key: Key, bodyKey: UInt64) {
        let size =
            generator.chance(0.2)
            ? Int.random(in: 0...600_000, using: &generator) : Int.random(in: 0...8_000, using: &generator)
        let source = BodySource(tunnel, key.stream, key: bodyKey, size: size)
        sources[key] = source
        source.pump()
        let delay = TimeAmount.milliseconds(Int64.random(in: 0...2_000, using: &generator))
        if generator.chance(0.1) {
            pair.wake(after: delay) {
                source.isStopped = true
                tunnel.reset(key.stream, code: ApplicationErrorCode(rawValue: 77))
            }
        } else if generator.chance(0.05) {
            pair.wake(after: delay) { [unowned self] in
                guard finals[key] == nil else { return }
                tunnel.stopSending(key.stream, code: ApplicationErrorCode(rawValue: 77))
                finals[key] = .reset
            }
        }
    }

    private func read(_ tunnel: TunnelConnection, _ key: Key) {
        guard let sink = sinks[key], finals[key] == nil else { return }
        while let bytes = tunnel.read(key.stream) {
            sink.receive(bytes)
            if !sink.isCorrect { failures.append("\(key): wrong bytes before \(sink.received)") }
            let count = bytes.readableBytes
            // The consumer drains at once, or later.
            if generator.chance(0.7) {
                tunnel.consume(key.stream, count)
            } else {
                pair.wake(after: .milliseconds(Int64.random(in: 0...200, using: &generator))) {
                    tunnel.consume(key.stream, count)
                }
            }
        }
        if tunnel.isFinished(key.stream) {
            let other = sources[Key(isClient: !key.isClient, stream: key.stream)]
            if other.map({ $0.size }) != sink.received { failures.append("\(key): \(sink.received) bytes, then FIN") }
            finals[key] = .complete
        }
    }
}
