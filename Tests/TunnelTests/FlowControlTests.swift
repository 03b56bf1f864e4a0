import NIOCore
import TestSupport
import Testing
import Tunnel

@Suite("Flow control and scheduling")
struct FlowControlTests {
    /// Returns the bytes of one bulk download that arrive in `duration` while `stalled` other streams are never read.
    private func bulkBytes(stalled: Int, for duration: TimeAmount) -> Int {
        var down = LinkConditions()
        down.rate = 5_000_000
        down.delay = .milliseconds(10)
        var up = LinkConditions()
        up.delay = .milliseconds(10)
        let pair = SimulatedTunnelPair(up: up, down: down)
        var bulk: StreamID?
        var sink: BodySink?
        var sources: [StreamID: BodySource] = [:]
        pair.onEvent = { tunnel, event in
            switch event {
            case .established where tunnel === pair.client:
                for index in 0...stalled {
                    guard let id = tunnel.openStream() else { continue }
                    if index == stalled {
                        bulk = id
                        sink = BodySink(key: id.rawValue)
                    }
                    tunnel.write(id, ByteBuffer(string: "x"))
                }
            case .streamOpened(let id) where tunnel === pair.server:
                sources[id] = BodySource(tunnel, id, key: id.rawValue, size: 1 << 30)
                sources[id]?.pump()
            case .writable(let id):
                sources[id]?.pump()
            case .readable(let id) where tunnel === pair.client && id == bulk:
                while let bytes = tunnel.read(id) {
                    sink?.receive(bytes)
                    tunnel.consume(id, bytes.readableBytes)
                }
            default: break
            }
        }
        // All stalling streams have stalled by then, so their windows do not enter the comparison.
        _ = pair.run(for: .seconds(3)) { false }
        let before = sink?.received ?? 0
        _ = pair.run(for: duration) { false }
        return sink.map { $0.isCorrect ? $0.received - before : -1 } ?? -1
    }

    @Test("64 stalled readers slow another stream by less than a tenth")
    func stalledReadersDoNotStopOthers() {
        let alone = bulkBytes(stalled: 0, for: .seconds(10))
        let beside = bulkBytes(stalled: 64, for: .seconds(10))
        #expect(alone > 40_000_000)
        #expect(Double(beside) > Double(alone) * 0.9, "\(beside) beside 64, \(alone) alone")
    }

    @Test("A stalled stream holds no more than its window")
    func stalledStreamIsBounded() {
        let pair = SimulatedTunnelPair()
        var source: BodySource?
        pair.onEvent = { tunnel, event in
            switch event {
            case .established where tunnel === pair.client:
                guard let id = tunnel.openStream() else { return }
                source = BodySource(tunnel, id, key: 1, size: 10 << 20)
                source?.pump()
            case .writable: source?.pump()
            default: break
            }
        }
        _ = pair.run(for: .seconds(20)) { false }
        #expect(pair.server.statistics.undrainedBytes == 64 << 10)
        #expect(source.map { $0.written <= (64 << 10) + (144 << 10) } ?? false)
    }

    @Test("Above the hard limit the stream that stalled longest is reset, never one that holds little")
    func overloadShedsTheSlowest() {
        var configuration = TunnelConfiguration()
        configuration.undrainedSoftLimit = 64 << 10
        configuration.undrainedHardLimit = 128 << 10
        let pair = SimulatedTunnelPair(configuration: configuration)
        var sources: [BodySource] = []
        var resets: [StreamID: ApplicationErrorCode] = [:]
        var stopped: [StreamID: ApplicationErrorCode] = [:]
        var waiting: StreamID?
        pair.onEvent = { tunnel, event in
            switch event {
            case .established where tunnel === pair.client:
                waiting = tunnel.openStream()
                waiting.map { tunnel.write($0, ByteBuffer(string: "a request that waits")) }
                for _ in 0..<16 {
                    guard let id = tunnel.openStream() else { return }
                    let source = BodySource(tunnel, id, key: 1, size: 1 << 20)
                    sources.append(source)
                    source.pump()
                }
            case .reset(let id, let code) where tunnel === pair.server: resets[id] = code
            case .stopSending(let id, let code) where tunnel === pair.client: stopped[id] = code
            default: break
            }
        }
        _ = pair.run(for: .seconds(10)) { false }
        #expect(pair.server.statistics.undrainedBytes <= 128 << 10)
        #expect(!resets.isEmpty)
        #expect(waiting.map { resets[$0] == nil } ?? false)
        #expect(resets.values.allSatisfy { $0 == .internalError })
        #expect(Set(stopped.keys) == Set(resets.keys))
    }

    @Test("A small response overtakes a bulk download that fills the path")
    func smallBeforeBulk() {
        var down = LinkConditions()
        down.rate = 1_000_000
        down.queue = 20_000
        down.delay = .milliseconds(5)
        let pair = SimulatedTunnelPair(down: down)
        var bulk: BodySource?
        var small: StreamID?
        var askedAt = NIODeadline.uptimeNanoseconds(0)
        var answeredAt: NIODeadline?
        pair.onEvent = { tunnel, event in
            switch event {
            case .established where tunnel === pair.client:
                guard let id = tunnel.openStream() else { return }
                tunnel.write(id, ByteBuffer(string: "bulk"))
                pair.wake(after: .seconds(3)) {
                    small = tunnel.openStream()
                    askedAt = pair.now
                    small.map { tunnel.write($0, ByteBuffer(string: "small")) }
                }
            case .streamOpened(let id) where tunnel === pair.server:
                if bulk == nil {
                    bulk = BodySource(tunnel, id, key: 1, size: 1 << 30)
                    bulk?.pump()
                } else {
                    tunnel.write(id, body(2, 0..<1_024))
                    tunnel.finish(id)
                }
            case .writable: bulk?.pump()
            case .readable(let id) where tunnel === pair.client:
                while let bytes = tunnel.read(id) { tunnel.consume(id, bytes.readableBytes) }
                if tunnel.isFinished(id), id == small { answeredAt = pair.now }
            default: break
            }
        }
        #expect(pair.run(for: .seconds(10)) { answeredAt != nil })
        // Two one-way delays of 5 ms (the answer's through a queue of at most 20 ms) and a packet or two ahead of it.
        if let answeredAt { #expect(answeredAt - askedAt < .milliseconds(40)) }
    }

    @Test("MAX_STREAMS rises with the streams that have closed")
    func streamLimitIsReplenished() {
        var configuration = TunnelConfiguration()
        configuration.maxStreams = 8
        let pair = SimulatedTunnelPair(configuration: configuration)
        var opened = 0
        var closed = 0
        func openMore() {
            while opened < 100, let id = pair.client.openStream() {
                opened += 1
                pair.client.finish(id)
            }
        }
        pair.onEvent = { tunnel, event in
            switch event {
            case .established where tunnel === pair.client: openMore()
            case .streamOpened(let id): tunnel.finish(id)
            case .readable(let id): _ = (tunnel.read(id), tunnel.isFinished(id))
            case .streamClosed where tunnel === pair.client:
                closed += 1
                openMore()
            default: break
            }
        }
        let done = pair.run(for: .seconds(60)) {
            openMore()
            return closed == 100 && pair.server.statistics.openStreams == 0
        }
        #expect(done, "\(opened) opened, \(closed) closed")
    }

    @Test("Before authentication a peer opens no stream and sends 16 KiB of control")
    func halfOpenLimits() {
        var server = TunnelConfiguration()
        server.startsAuthenticated = false
        let pair = SimulatedTunnelPair(serverConfiguration: server)
        var received = 0
        var canOpen: Bool?
        pair.onEvent = { tunnel, event in
            switch event {
            case .established where tunnel === pair.client:
                canOpen = tunnel.openStream() != nil
                tunnel.write(.control, body(0, 0..<40_000))
            case .readable(.control):
                while let bytes = tunnel.read(.control) { received += bytes.readableBytes }
            default: break
            }
        }
        _ = pair.run(for: .seconds(5)) { false }
        #expect(canOpen == false)
        #expect(received == 16 << 10)
        pair.server.authenticated()
        #expect(pair.run(for: .seconds(5)) { received == 40_000 })
        #expect(pair.client.openStream() != nil)
    }
}
