import HopProtocol
import NIOCore
import Testing
import Tunnel

struct RequestDecoderTests {
    /// A head, two DATA frames and trailers: 10 bytes of body.
    static func message(_ head: RequestHead = sampleRequest, trailers: Bool = true) throws -> ByteBuffer {
        try .made {
            try MessageEncoder.writeRequestHead(head, into: &$0)
            MessageEncoder.writeData(ByteBuffer(string: "01234"), into: &$0)
            MessageEncoder.writeDataHeader(length: 5, into: &$0)
            $0.writeString("56789")
            if trailers { try MessageEncoder.writeTrailers(FieldSection(["x-sum": "45"]), into: &$0) }
        }
    }

    static let events: [DecoderEvent] = [
        .request(sampleRequest), .data("0123456789"), .trailers(FieldSection(["x-sum": "45"])), .end,
    ]

    @Test("A request is decoded as it was encoded")
    func roundTrip() throws {
        #expect(try decodeRequest([Self.message()]) == Self.events)
    }

    @Test("A request cut at any byte, or into single bytes, is decoded the same")
    func everySplit() throws {
        let message = try Self.message()
        for index in 0...message.readableBytes {
            #expect(try decodeRequest(message.cut(at: index)) == Self.events)
        }
        #expect(try decodeRequest(message.crumbs) == Self.events)
    }

    @Test("FIN at any byte before the end aborts the message")
    func everyEnd() throws {
        let message = try Self.message(trailers: false)
        for index in 0..<message.readableBytes {
            #expect(throws: HopError.self) { try decodeRequest([message.cut(at: index)[0]]) }
        }
        #expect(try decodeRequest([message]).last == .end)
    }

    @Test("FIN inside a frame, before the head or short of the Content-Length throws aborted")
    func abortedCode() throws {
        let cases: [ByteBuffer] = [
            ByteBuffer(), try Self.message().cut(at: 3)[0],
            try .made { try MessageEncoder.writeRequestHead(sampleRequest, into: &$0) },
        ]
        for bytes in cases {
            do {
                _ = try decodeRequest([bytes])
                Issue.record("FIN was taken")
            } catch let error as HopError {
                #expect(error.code == .aborted)
            }
        }
    }

    @Test("finish before the last next defers the end and the error")
    func finishEarly() throws {
        var decoder = RequestDecoder()
        decoder.feed(try Self.message())
        try decoder.finish()
        var events: [DecoderEvent] = []
        try decoder.drain(into: &events)
        #expect(events == Self.events)
        #expect(try decoder.next() == nil)

        var cut = RequestDecoder()
        cut.feed(try Self.message().cut(at: 200)[0])
        try cut.finish()
        #expect(throws: HopError.self) { try cut.drain(into: &events) }
    }

    @Test("A body longer than its Content-Length is a violation")
    func tooLong() throws {
        var message = try Self.message(trailers: false)
        MessageEncoder.writeData(ByteBuffer(string: "x"), into: &message)
        #expect(throws: HopError.self) { try decodeRequest([message]) }
    }

    @Test("Trailers short of the Content-Length abort the message")
    func shortBeforeTrailers() throws {
        let message: ByteBuffer = try .made {
            try MessageEncoder.writeRequestHead(sampleRequest, into: &$0)
            try MessageEncoder.writeTrailers(FieldSection(), into: &$0)
        }
        #expect(throws: HopError.self) { try decodeRequest([message], fin: false) }
    }

    @Test("Frames out of order and unknown frames are violations")
    func order() throws {
        let head: ByteBuffer = try .made { try MessageEncoder.writeRequestHead(Self.open, into: &$0) }
        let data: ByteBuffer = .made { MessageEncoder.writeData(ByteBuffer(string: "x"), into: &$0) }
        let trailers: ByteBuffer = try .made { try MessageEncoder.writeTrailers(FieldSection(), into: &$0) }
        let accepted: ByteBuffer = .made { MessageEncoder.writeAccepted(into: &$0) }
        let unknown = ByteBuffer(bytes: [0x05, 0x00])
        for pieces in [
            [data], [trailers], [accepted], [unknown], [head, head], [head, accepted], [head, unknown],
            [head, trailers, data], [head, trailers, trailers],
        ] {
            #expect(throws: HopError.self) { try decodeRequest(pieces, fin: false) }
        }
        #expect(try decodeRequest([head, data, data, trailers]).last == .end)
        #expect(try decodeRequest([head]) == [.request(Self.open), .end])
    }

    @Test("An error is final")
    func errorStays() throws {
        var decoder = RequestDecoder()
        decoder.feed(ByteBuffer(bytes: [0x05, 0x00]))
        #expect(throws: HopError.self) { try decoder.next() }
        decoder.feed(try Self.message())
        #expect(throws: HopError.self) { try decoder.next() }
    }

    @Test("After an upgrade trailers are a violation and DATA is passed on")
    func upgraded() throws {
        var decoder = RequestDecoder()
        decoder.feed(try .made { try MessageEncoder.writeRequestHead(Self.open, into: &$0) })
        _ = try decoder.next()
        decoder.upgraded()
        decoder.feed(.made { MessageEncoder.writeData(ByteBuffer(string: "raw"), into: &$0) })
        var events: [DecoderEvent] = []
        try decoder.drain(into: &events)
        #expect(events == [.data("raw")])
        decoder.feed(try .made { try MessageEncoder.writeTrailers(FieldSection(), into: &$0) })
        #expect(throws: HopError.self) { try decoder.next() }
    }

    @Test("Empty DATA frames are ignored")
    func emptyData() throws {
        let message: ByteBuffer = try .made {
            try MessageEncoder.writeRequestHead(Self.open, into: &$0)
            for _ in 0..<3 { MessageEncoder.writeDataHeader(length: 0, into: &$0) }
        }
        #expect(try decodeRequest([message]) == [.request(Self.open), .end])
    }

    @Test("Every byte is either overhead or DATA, in any pieces")
    func overhead() throws {
        let message = try Self.message()
        for pieces in [[message], message.crumbs, message.cut(at: 100)] {
            var decoder = RequestDecoder()
            var events: [DecoderEvent] = []
            var overhead = 0
            for piece in pieces {
                decoder.feed(piece)
                try decoder.drain(into: &events)
                overhead += decoder.drainOverhead()
            }
            #expect(overhead == message.readableBytes - 10)
            #expect(decoder.drainOverhead() == 0)
        }
    }

    @Test("A DATA frame passes before it is complete, as slices")
    func streaming() throws {
        var decoder = RequestDecoder()
        decoder.feed(
            try .made {
                try MessageEncoder.writeRequestHead(Self.open, into: &$0)
                MessageEncoder.writeDataHeader(length: 1 << 40, into: &$0)
                $0.writeString("begin")
            }
        )
        var events: [DecoderEvent] = []
        try decoder.drain(into: &events)
        #expect(events == [.request(Self.open), .data("begin")])
    }

    @Test("Lengths above the limit are refused before anything is kept")
    func bounds() throws {
        for (type, limit) in [(1, HopLimits.head), (3, HopLimits.trailers), (4, HopLimits.accepted)] as [(UInt64, Int)]
        {
            for length in [UInt64(limit) + 1, 1 << 32, VarInt.max] {
                let frame: ByteBuffer = .made {
                    $0.writeVarInt(type)
                    $0.writeVarInt(length)
                }
                do {
                    _ = try decodeRequest([frame], fin: false)
                    Issue.record("\(length) was taken")
                } catch let error as HopError {
                    #expect(error.code == .tooLarge)
                }
            }
        }
    }

    @Test("A head above 96 KiB is not written, and the buffer keeps its content")
    func encoderBounds() throws {
        var head = Self.open
        head.fields.append(name: "x", value: String(repeating: "y", count: HopLimits.head))
        var buffer = ByteBuffer(string: "before")
        #expect(throws: HopError.self) { try MessageEncoder.writeRequestHead(head, into: &buffer) }
        #expect(throws: HopError.self) {
            try MessageEncoder.writeResponseHead(ResponseHead(status: 200, fields: head.fields), into: &buffer)
        }
        #expect(throws: HopError.self) { try MessageEncoder.writeTrailers(head.fields, into: &buffer) }
        #expect(String(buffer: buffer) == "before")
    }

    @Test("Bytes behind the known part of a head are ignored")
    func extension_() throws {
        var payload: ByteBuffer = try .made { try MessageEncoder.writeRequestHead(sampleRequest, into: &$0) }
        payload.moveReaderIndex(forwardBy: 5)
        let frame: ByteBuffer = .made {
            $0.writeVarInt(1)
            $0.writeVarInt(UInt64(payload.readableBytes + 3))
            $0.writeImmutableBuffer(payload)
            $0.writeString("new")
        }
        #expect(try decodeRequest([frame], fin: false) == [.request(sampleRequest)])
    }

    @Test(
        "Words of a head that could forge a request line are refused",
        arguments: [
            ("GET /", "https", "a", "/", "web"), ("", "https", "a", "/", "web"), ("GET", "", "a", "/", "web"),
            ("GET", "https", "a b", "/", "web"), ("GET", "https", "a\r", "/", "web"), ("GET", "https", "a", "", "web"),
            ("GET", "https", "a", "x", "web"), ("GET", "https", "a", "/ HTTP/1.1", "web"),
            ("GET", "https", "a", "/\r\n", "web"), ("GET", "https", "a", "*x", "web"),
            ("GET", "https", "a", "/", "w b"),
        ]
    )
    func hostileWords(method: String, scheme: String, authority: String, path: String, service: String) throws {
        var head = Self.open
        (head.method, head.scheme, head.authority, head.path, head.service) = (method, scheme, authority, path, service)
        let frame: ByteBuffer = try .made { try MessageEncoder.writeRequestHead(head, into: &$0) }
        #expect(throws: HopError.self) { try decodeRequest([frame], fin: false) }
    }

    @Test("A path that is not UTF-8 is refused, not repaired")
    func notUTF8() throws {
        var frame: ByteBuffer = try .made { try MessageEncoder.writeRequestHead(Self.open, into: &$0) }
        let at = frame.readableBytesView.firstIndex(of: UInt8(ascii: "/"))!
        #expect(try decodeRequest([frame], fin: false) == [.request(Self.open)])
        frame.setInteger(UInt8(0xFF), at: at + 1)
        #expect(throws: HopError.self) { try decodeRequest([frame], fin: false) }
    }

    @Test("A deadline travels in whole milliseconds; a passed one is 1 ms, and nil stays nil")
    func deadlines() throws {
        for (sent, received) in [
            (nil, nil), (.nanoseconds(-5), .milliseconds(1)), (.nanoseconds(1), .milliseconds(1)),
            (.nanoseconds(2_999_999), .milliseconds(2)), (.hours(1), .hours(1)),
            (.nanoseconds(.max), .milliseconds(31_536_000_000)),
        ] as [(TimeAmount?, TimeAmount?)] {
            var head = Self.open
            head.deadline = sent
            let frame: ByteBuffer = try .made { try MessageEncoder.writeRequestHead(head, into: &$0) }
            head.deadline = received
            #expect(try decodeRequest([frame], fin: false) == [.request(head)])
        }
    }

    @Test("Golden bytes of a request")
    func golden() throws {
        let head = RequestHead(
            requestID: sampleRequest.requestID,
            attempt: 1,
            run: sampleRequest.run,
            method: "GET",
            scheme: "https",
            authority: "a.b",
            path: "/x",
            service: "web",
            deadline: .seconds(30),
            traceparent: "t",
            fields: FieldSection(["a": "b"])
        )
        let bytes: ByteBuffer = try .made {
            try MessageEncoder.writeRequestHead(head, into: &$0)
            MessageEncoder.writeData(ByteBuffer(string: "hi"), into: &$0)
            try MessageEncoder.writeTrailers(FieldSection(["c": "d"]), into: &$0)
        }
        #expect(
            bytes.hex
                == "0180000041" + "000102030405060708090a0b0c0d0e0f" + "01" + "f0f1f2f3f4f5f6f7f8f9fafbfcfdfeff"
                + "03474554" + "056874747073" + "03612e62" + "022f78" + "03776562" + "80007530" + "0174"
                + "04" + "01610162" + "02026869" + "0380000004" + "01630164"
        )
    }

    @Test("Damaged requests never trap: they decode or throw")
    func damaged() throws {
        let message = try Self.message()
        var random = Seeded(state: 7)
        for _ in 0..<20_000 {
            var bytes = Array(message.readableBytesView)
            for _ in 0..<Int.random(in: 1...4, using: &random) {
                bytes[Int.random(in: bytes.indices, using: &random)] = UInt8.random(in: .min ... .max, using: &random)
            }
            bytes.removeLast(Int.random(in: 0..<bytes.count, using: &random))
            _ = try? decodeRequest([ByteBuffer(bytes: bytes)])
            _ = try? decodeResponse([ByteBuffer(bytes: bytes)])
        }
    }

    /// A request without Content-Length.
    static var open: RequestHead {
        var head = sampleRequest
        head.fields = FieldSection(["accept": "*/*"])
        return head
    }
}
