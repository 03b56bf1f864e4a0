import HopProtocol
import NIOCore
import Testing
import Tunnel

struct ResponseDecoderTests {
    static let early = ResponseHead(status: 103, fields: FieldSection(["link": "</a>"]))
    static let final = ResponseHead(status: 200, fields: FieldSection(["Content-Length": "5", "Set-Cookie": "a"]))
    static let trailers = FieldSection(["grpc-status": "0"])

    static func frames(_ heads: [ResponseHead], body: String = "", trailers: FieldSection? = nil) throws -> ByteBuffer {
        try .made {
            MessageEncoder.writeAccepted(into: &$0)
            for head in heads { try MessageEncoder.writeResponseHead(head, into: &$0) }
            if !body.isEmpty { MessageEncoder.writeData(ByteBuffer(string: body), into: &$0) }
            if let trailers { try MessageEncoder.writeTrailers(trailers, into: &$0) }
        }
    }

    @Test("A response cut at any byte is decoded as it was encoded")
    func everySplit() throws {
        let message = try Self.frames([Self.early, Self.final], body: "hello", trailers: Self.trailers)
        let events: [DecoderEvent] = [
            .accepted, .interim(Self.early), .response(Self.final), .data("hello"), .trailers(Self.trailers), .end,
        ]
        for index in 0...message.readableBytes {
            #expect(try decodeResponse(message.cut(at: index)) == events)
        }
        #expect(try decodeResponse(message.crumbs) == events)
    }

    @Test("FIN at any byte before the end aborts the message")
    func everyEnd() throws {
        let message = try Self.frames([Self.early, Self.final], body: "hello")
        for index in 0..<message.readableBytes {
            #expect(throws: HopError.self) { try decodeResponse([message.cut(at: index)[0]]) }
        }
    }

    @Test("HEAD, 204 and 304 end without the body that Content-Length announces, and have none")
    func bodyless() throws {
        for (method, status) in [("HEAD", 200), ("GET", 204), ("GET", 304), ("HEAD", 404)] {
            let head = ResponseHead(status: status, fields: FieldSection(["Content-Length": "5"]))
            #expect(try decodeResponse([Self.frames([head])], method: method).last == .end)
            #expect(throws: HopError.self) {
                try decodeResponse([Self.frames([head], body: "x")], method: method, fin: false)
            }
        }
    }

    @Test("A response without a body may announce any Content-Length")
    func headNonsense() throws {
        let head = ResponseHead(status: 304, fields: FieldSection(["Content-Length": "x"]))
        #expect(try decodeResponse([Self.frames([head])]).last == .end)
    }

    @Test("A body without Content-Length ends with FIN")
    func noLength() throws {
        let head = ResponseHead(status: 200)
        #expect(
            try decodeResponse([Self.frames([head], body: "abc")]) == [
                .accepted, .response(head), .data("abc"), .end,
            ]
        )
        #expect(try decodeResponse([Self.frames([head])]) == [.accepted, .response(head), .end])
    }

    @Test("101 is a final head: opaque DATA until FIN, neither heads nor trailers")
    func upgrade() throws {
        let head = ResponseHead(status: 101, fields: FieldSection(["upgrade": "websocket"]))
        #expect(head.isInterim == false)
        #expect(
            try decodeResponse([Self.frames([Self.early, head], body: "raw")]) == [
                .accepted, .interim(Self.early), .response(head), .data("raw"), .end,
            ]
        )
        #expect(throws: HopError.self) { try decodeResponse([Self.frames([head, Self.final])], fin: false) }
        #expect(throws: HopError.self) {
            try decodeResponse([Self.frames([head], trailers: Self.trailers)], fin: false)
        }
    }

    @Test("Interim heads alone are not a response")
    func interimOnly() throws {
        #expect(throws: HopError.self) { try decodeResponse([Self.frames([Self.early, Self.early])]) }
    }

    @Test("Frames out of order are violations")
    func order() throws {
        let accepted: ByteBuffer = .made { MessageEncoder.writeAccepted(into: &$0) }
        let head: ByteBuffer = try .made { try MessageEncoder.writeResponseHead(Self.final, into: &$0) }
        let data: ByteBuffer = .made { MessageEncoder.writeData(ByteBuffer(string: "hello"), into: &$0) }
        let trailers: ByteBuffer = try .made { try MessageEncoder.writeTrailers(Self.trailers, into: &$0) }
        for pieces in [
            [head], [data], [trailers], [accepted, accepted], [accepted, data], [accepted, trailers],
            [accepted, head, head], [accepted, head, accepted], [accepted, head, data, data],
            [accepted, head, data, trailers, data], [accepted, head, data, trailers, trailers],
            [accepted, ByteBuffer(bytes: [0x21, 0x00])],
        ] {
            #expect(throws: HopError.self) { try decodeResponse(pieces, fin: false) }
        }
    }

    @Test("The content that a later version puts into ACCEPTED is ignored")
    func acceptedPayload() throws {
        let bytes: ByteBuffer = .made {
            $0.writeVarInt(4)
            $0.writeVarInt(3)
            $0.writeString("abc")
        }
        #expect(try decodeResponse([bytes], fin: false) == [.accepted])
    }

    @Test("A status outside 100–999 is a violation", arguments: [0, 1, 99, 1_000, 1 << 40] as [UInt64])
    func status(raw: UInt64) {
        let bytes: ByteBuffer = .made {
            MessageEncoder.writeAccepted(into: &$0)
            $0.writeVarInt(1)
            $0.writeVarInt(UInt64(VarInt.length(raw) + 1))
            $0.writeVarInt(raw)
            $0.writeVarInt(0)
        }
        #expect(throws: HopError.self) { try decodeResponse([bytes], fin: false) }
    }

    @Test("Golden bytes of a response")
    func golden() throws {
        let bytes = try Self.frames(
            [ResponseHead(status: 200, fields: FieldSection(["a": "b"]))],
            body: "hi",
            trailers: FieldSection(["c": "d"])
        )
        #expect(
            bytes.hex == "0400" + "0180000007" + "40c8" + "04" + "01610162" + "02026869" + "0380000004" + "01630164"
        )
    }
}
