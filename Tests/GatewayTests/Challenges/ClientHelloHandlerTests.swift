import ACME
import Certificates
import Gateway
import NIOCore
import NIOEmbedded
import Observability
import TestSupport
import Testing

/// Runs the handler in a pipeline without sockets, with a clock that the test advances.
@Suite("ClientHello handler")
struct ClientHelloHandlerTests {
    /// A stand-in for the TLS handler that records what it receives.
    private final class Recorder: ChannelInboundHandler, RemovableChannelHandler {
        typealias InboundIn = ByteBuffer

        var reads: [[UInt8]] = []
        var readCompletes = 0
        var events: [ChannelEvent] = []
        var isInactive = false
        var isRemoved = false

        var bytes: [UInt8] { Array(reads.joined()) }

        func channelRead(context: ChannelHandlerContext, data: NIOAny) {
            reads.append(Array(unwrapInboundIn(data).readableBytesView))
        }

        func channelReadComplete(context: ChannelHandlerContext) { readCompletes += 1 }

        func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
            if let event = event as? ChannelEvent { events.append(event) }
        }

        func channelInactive(context: ChannelHandlerContext) { isInactive = true }
        func handlerRemoved(context: ChannelHandlerContext) { isRemoved = true }
    }

    /// Removes the first line from the stream and then itself, like a handler of the PROXY protocol.
    private final class PrefixStripper: ChannelInboundHandler, RemovableChannelHandler {
        typealias InboundIn = ByteBuffer
        typealias InboundOut = ByteBuffer

        private var held = ByteBuffer()

        func channelRead(context: ChannelHandlerContext, data: NIOAny) {
            held.writeImmutableBuffer(unwrapInboundIn(data))
            guard let end = held.readableBytesView.firstIndex(of: UInt8(ascii: "\n")) else { return }
            held.moveReaderIndex(to: end + 1)
            if held.readableBytes > 0 { context.fireChannelRead(wrapInboundOut(held)) }
            context.pipeline.syncOperations.removeHandler(context: context, promise: nil)
        }
    }

    private let metrics = MetricsRegistry(namespace: "hopgate")
    private let challenges: ALPNChallenges
    private let recorder = Recorder()
    private let channel = EmbeddedChannel()

    init() throws {
        challenges = ALPNChallenges(metrics: metrics)
        let name = try #require(CertificateName("app.test"))
        _ = challenges.replace(with: [ChallengeTask(.tlsALPN01, name, token: "token", key: AccountKey())])
        let handler = ClientHelloHandler(challenges: challenges, ordinary: recorder)
        try channel.pipeline.syncOperations.addHandlers([handler, recorder])
        try channel.connect(to: SocketAddress(ipAddress: "192.0.2.1", port: 443)).wait()
    }

    private var isInspecting: Bool {
        (try? channel.pipeline.syncOperations.context(handlerType: ClientHelloHandler.self)) != nil
    }

    private func receive(_ bytes: some Sequence<UInt8>) {
        channel.pipeline.fireChannelRead(ByteBuffer(bytes: bytes))
        channel.pipeline.fireChannelReadComplete()
    }

    private func count(_ result: ALPNChallenges.Result) -> Int? {
        var text = ByteBuffer()
        metrics.write(into: &text)
        let series = "hopgate_tls_alpn_challenges_total{result=\"\(result.rawValue)\"} "
        let line = String(buffer: text).split(separator: "\n").first { $0.hasPrefix(series) }
        return line.flatMap { Int($0.dropFirst(series.count)) }
    }

    private func outbound() throws -> [UInt8] {
        var bytes: [UInt8] = []
        while let part = try channel.readOutbound(as: ByteBuffer.self) { bytes += part.readableBytesView }
        return bytes
    }

    @Test("An ordinary hello is forwarded in one piece, and the handler is removed")
    func ordinary() {
        receive(CapturedHello.curl.bytes)
        #expect(recorder.reads == [CapturedHello.curl.bytes])
        #expect(recorder.readCompletes == 1)
        #expect(!isInspecting)
        receive([1, 2, 3])
        #expect(recorder.reads.last == [1, 2, 3])
    }

    @Test("A hello in pieces is forwarded when it is complete, at every split")
    func pieces() throws {
        let bytes = CapturedHello.curl.bytes
        for cut in 1..<bytes.count {
            let test = try ClientHelloHandlerTests()
            test.receive(bytes[..<cut])
            #expect(test.recorder.reads.isEmpty && test.isInspecting)
            test.receive(bytes[cut...])
            #expect(test.recorder.reads == [bytes] && !test.isInspecting)
        }
        let test = try ClientHelloHandlerTests()
        for byte in bytes { test.receive([byte]) }
        #expect(test.recorder.reads == [bytes] && !test.isInspecting)
    }

    @Test("Plain HTTP, garbage and hellos beyond the limit are forwarded unchanged as soon as they are recognised")
    func others() throws {
        receive("G".utf8)
        #expect(recorder.bytes == [UInt8(ascii: "G")] && !isInspecting)
        for bytes in [
            [UInt8](repeating: 0xFF, count: 50_000), [22, 3, 1, 1, 0, 1, 0xFF, 0xFF, 0xFF],
            TestHello.records(TestHello.handshake([UInt8](repeating: 0, count: 4_000)), of: 1),
        ] {
            let test = try ClientHelloHandlerTests()
            for start in stride(from: 0, to: bytes.count, by: 1_000) {
                test.receive(bytes[start..<min(bytes.count, start + 1_000)])
            }
            #expect(test.recorder.bytes == bytes && !test.isInspecting)
        }
    }

    @Test("An incomplete hello is forwarded five seconds after the first byte, and later bytes at once")
    func slow() {
        let bytes = CapturedHello.opensslValidator.bytes
        channel.embeddedEventLoop.advanceTime(by: .seconds(60))
        #expect(isInspecting)
        for index in 0..<5 {
            receive([bytes[index]])
            #expect(recorder.reads.isEmpty)
            channel.embeddedEventLoop.advanceTime(by: .milliseconds(999))
        }
        #expect(recorder.reads.isEmpty && isInspecting)
        let completes = recorder.readCompletes
        channel.embeddedEventLoop.advanceTime(by: .milliseconds(5))
        #expect(recorder.bytes == Array(bytes[..<5]) && !isInspecting)
        #expect(recorder.readCompletes == completes + 1)
        receive(bytes[5...])
        #expect(recorder.bytes == bytes)
    }

    @Test("A verdict cancels the timeout: nothing happens five seconds later")
    func timerEnds() {
        let bytes = CapturedHello.curl.bytes
        receive(bytes[..<10])
        receive(bytes[10...])
        let completes = recorder.readCompletes
        channel.embeddedEventLoop.advanceTime(by: .seconds(10))
        #expect(recorder.reads == [bytes] && recorder.readCompletes == completes)
    }

    @Test("An end of input before the verdict is forwarded after the buffered bytes")
    func ends() throws {
        receive([22, 3, 1])
        channel.pipeline.fireUserInboundEventTriggered(ChannelEvent.inputClosed)
        #expect(recorder.bytes == [22, 3, 1] && recorder.events == [.inputClosed] && !isInspecting)
        let test = try ClientHelloHandlerTests()
        test.receive([22, 3])
        try test.channel.close().wait()
        #expect(test.recorder.bytes == [22, 3] && test.recorder.isInactive)
    }

    @Test("A name with a challenge replaces the TLS handler by the challenge's")
    func challenge() throws {
        let bytes = try TestHello.boringSSL(serverName: "app.test", protocols: ["acme-tls/1"])
        receive(bytes[..<100])
        #expect(try outbound().isEmpty)
        receive(bytes[100...])
        #expect(recorder.reads.isEmpty && recorder.isRemoved && !isInspecting)
        // A ServerHello in a handshake record.
        #expect(try outbound().starts(with: [22, 3, 3]))
    }

    @Test("acme-tls/1 for any other name is answered with an alert, closed and counted")
    func unknownName() throws {
        for serverName in ["other.test", nil] {
            let test = try ClientHelloHandlerTests()
            var hello = TestHello()
            hello.serverName = serverName
            test.receive(hello.bytes)
            #expect(try test.outbound() == [21, 3, 3, 0, 2, 2, 112])
            #expect(!test.channel.isActive)
            #expect(test.recorder.reads.isEmpty && test.recorder.isInactive)
            #expect(test.count(.unknownName) == 1)
        }
    }

    @Test("The handler works behind one that removes a prefix, at every split of both")
    func prefix() throws {
        let prefix = Array("PROXY TCP4 192.0.2.1 192.0.2.2 1 443\r\n".utf8)
        let hello = CapturedHello.curl.bytes
        let bytes = prefix + hello
        for cut in stride(from: 1, to: bytes.count, by: 7) {
            let test = try ClientHelloHandlerTests()
            try test.channel.pipeline.syncOperations.addHandler(PrefixStripper(), position: .first)
            test.receive(bytes[..<cut])
            test.receive(bytes[cut...])
            #expect(test.recorder.bytes == hello && !test.isInspecting, "cut at \(cut)")
        }
    }
}
