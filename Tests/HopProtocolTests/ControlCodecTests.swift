import HopProtocol
import NIOCore
import Testing

struct ControlCodecTests {
    static let run = RunID(rawValue: 0x0102_0304_0506_0708_090A_0B0C_0D0E_0F10)

    static let golden: [(ControlMessage, String)] = [
        (
            .hello(
                Hello(
                    tokenID: "id",
                    secret: "s/1",
                    name: "pod-1",
                    run: run,
                    attach: 3,
                    services: ["web"],
                    hosts: ["a.test"],
                    maxRequests: 1_000,
                    avoid: ["X"]
                )
            ),
            #"{"attach":3,"avoid":["X"],"hosts":["a.test"],"max_requests":1000,"name":"pod-1","#
                + #""run":"0102030405060708090a0b0c0d0e0f10","secret":"s/1","services":["web"],"token_id":"id","#
                + #""type":"HELLO"}"#
        ),
        (
            .welcome(
                Welcome(incarnation: "01J", direct: ["10.0.0.1:8443"], keepAliveMilliseconds: 1_000, maxRequests: 500)
            ),
            #"{"direct":["10.0.0.1:8443"],"incarnation":"01J","keep_alive_ms":1000,"max_requests":500,"type":"WELCOME"}"#
        ),
        (.elsewhere(Elsewhere(retryAfterMilliseconds: 5)), #"{"retry_after_ms":5,"type":"ELSEWHERE"}"#),
        (
            .services(Services(services: ["a", "b"], hosts: [])),
            #"{"hosts":[],"services":["a","b"],"type":"SERVICES"}"#
        ),
        (
            .goaway(Goaway(deadlineMilliseconds: 60_000, spreadMilliseconds: 10_000)),
            #"{"deadline_ms":60000,"spread_ms":10000,"type":"GOAWAY"}"#
        ),
        (
            .error(ErrorMessage(code: .authFailed, message: "no such token")),
            #"{"code":36,"message":"no such token","type":"ERROR"}"#
        ),
        (
            .error(ErrorMessage(code: .busy, message: "", retryAfterMilliseconds: 9)),
            #"{"code":4,"message":"","retry_after_ms":9,"type":"ERROR"}"#
        ),
    ]

    static func frame(_ json: String) -> ByteBuffer {
        .made {
            $0.writeInteger(UInt32(json.utf8.count))
            $0.writeString(json)
        }
    }

    static func decode(_ pieces: [ByteBuffer]) throws -> [ControlMessage] {
        var codec = ControlCodec()
        var messages: [ControlMessage] = []
        for piece in pieces {
            codec.feed(piece)
            while let message = try codec.next() { messages.append(message) }
        }
        return messages
    }

    @Test("Each message has its golden bytes, encoded and decoded")
    func goldenBytes() throws {
        for (message, json) in Self.golden {
            #expect(try ControlCodec.encode(message) == Self.frame(json))
            #expect(try Self.decode([Self.frame(json)]) == [message])
        }
    }

    @Test("Messages cut at any byte, or into single bytes, are decoded the same")
    func everySplit() throws {
        let all: ByteBuffer = try .made {
            for (message, _) in Self.golden { $0.writeImmutableBuffer(try ControlCodec.encode(message)) }
        }
        let messages = Self.golden.map(\.0)
        for index in 0...all.readableBytes { #expect(try Self.decode(all.cut(at: index)) == messages) }
        #expect(try Self.decode(all.crumbs) == messages)
    }

    @Test("Messages that never end with a packet occupy no more memory, however many there are")
    func memory() throws {
        let message = ControlMessage.error(ErrorMessage(code: .busy, message: String(repeating: "x", count: 1_000)))
        let frame = try ControlCodec.encode(message)
        let pieces = frame.cut(at: 500)
        let packet: ByteBuffer = .made { for piece in pieces.reversed() { $0.writeImmutableBuffer(piece) } }
        var codec = ControlCodec()
        codec.feed(pieces[0])
        for _ in 0..<1_000 {
            codec.feed(packet)
            #expect(try codec.next() == message)
            #expect(try codec.next() == nil)
        }
        #expect(codec.capacity <= 16 * 1024)
    }

    @Test("Unknown fields are ignored and absent ones have their defaults")
    func tolerant() throws {
        let hello = #"{"type":"HELLO","token_id":"i","secret":"s","name":"n","run":"\#(Self.run)","color":{"a":[1]}}"#
        #expect(
            try Self.decode([Self.frame(hello)])
                == [.hello(Hello(tokenID: "i", secret: "s", name: "n", run: Self.run, attach: 0, services: []))]
        )
        #expect(
            try Self.decode([Self.frame(#"{"type":"WELCOME","incarnation":"x","y":null}"#)])
                == [.welcome(Welcome(incarnation: "x"))]
        )
        #expect(
            try Self.decode([Self.frame(#"{"type":"GOAWAY"}"#)]) == [.goaway(Goaway(deadlineMilliseconds: 0))]
        )
        #expect(
            try Self.decode([Self.frame(#"{"type":"ERROR","code":777}"#)])
                == [.error(ErrorMessage(code: .internalError, message: ""))]
        )
    }

    @Test("Messages of an unknown type are skipped")
    func unknownType() throws {
        let frames = [#"{"type":"LATER","a":1}"#, #"{"type":"ELSEWHERE"}"#].map(Self.frame)
        #expect(try Self.decode(frames) == [.elsewhere(Elsewhere())])
    }

    @Test(
        "Invalid messages end the stream",
        arguments: [
            "", "{", "[]", "null", "1", #"{"type":1}"#, #"{}"#, #"{"type":"HELLO"}"#,
            #"{"type":"HELLO","token_id":"i","secret":"s","name":"n","run":"12"}"#,
            #"{"type":"WELCOME","incarnation":1}"#, #"{"type":"GOAWAY","deadline_ms":-1}"#,
            #"{"type":"GOAWAY","deadline_ms":1e30}"#, #"{"type":"ERROR","code":"36"}"#, "\u{0}",
            String(repeating: "[", count: 60_000),
        ]
    )
    func hostile(json: String) {
        #expect(throws: HopError.self) { try Self.decode([Self.frame(json)]) }
    }

    @Test("Bytes that are not UTF-8 end the stream")
    func notUTF8() {
        let bytes: ByteBuffer = .made {
            $0.writeInteger(UInt32(16))
            $0.writeBytes(Array(#"{"type":""#.utf8) + [0xFF, 0xFE] + Array(#"xyz"}"#.utf8))
        }
        #expect(throws: HopError.self) { try Self.decode([bytes]) }
    }

    @Test("A length above 64 KiB is refused at once", arguments: [65_537, 1 << 31, .max] as [UInt32])
    func tooLong(length: UInt32) {
        #expect(throws: HopError.self) { try Self.decode([ByteBuffer(integer: length)]) }
    }

    @Test("A message of 64 KiB is accepted, one byte more is not sent")
    func bound() throws {
        let overhead = try ControlCodec.encode(.error(ErrorMessage(code: .busy, message: ""))).readableBytes - 4
        let fits = ErrorMessage(
            code: .busy,
            message: String(repeating: "x", count: HopLimits.controlMessage - overhead)
        )
        #expect(try Self.decode([ControlCodec.encode(.error(fits))]) == [.error(fits)])
        var above = fits
        above.message += "x"
        #expect(throws: HopError.self) { try ControlCodec.encode(.error(above)) }
    }

    @Test("An error is final, and no bytes after it are kept")
    func errorStays() throws {
        var codec = ControlCodec()
        codec.feed(Self.frame("{"))
        #expect(throws: HopError.self) { try codec.next() }
        codec.feed(Self.frame(#"{"type":"ELSEWHERE"}"#))
        #expect(throws: HopError.self) { try codec.next() }
    }

    @Test("Damaged messages never trap: they decode or throw")
    func damaged() throws {
        var random = Seeded(state: 11)
        for (message, _) in Self.golden {
            let whole = try ControlCodec.encode(message)
            for _ in 0..<500 {
                var bytes = Array(whole.readableBytesView)
                for _ in 0..<Int.random(in: 1...3, using: &random) {
                    bytes[Int.random(in: 4..<bytes.count, using: &random)] = .random(in: .min ... .max, using: &random)
                }
                _ = try? Self.decode([ByteBuffer(bytes: bytes)])
            }
        }
    }
}
