import Agent
import HopProtocol
import NIOCore
import TestSupport
import Testing
import Transport

@Suite(.serialized)
struct UpgradeTests {
    static let asks = FieldSection(["Upgrade": "websocket", "Sec-WebSocket-Key": "k"])

    static func switching(_ extra: String = "") async throws -> TestOrigin {
        try await TestOrigin { peer, _ in
            peer.switchToRaw()
            peer.write("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: WebSocket\r\n\r\n\(extra)")
        }
    }

    @Test("After a 101 bytes are relayed both ways, and each direction ends separately")
    func bothWays() async throws {
        let origin = try await Self.switching("first")
        try await Rig.with(origin) { rig in
            let call = try await rig.gateway.call(try await rig.head(fields: Self.asks), finish: false)
            let begun = try await call.log.wait("101 and the bytes behind it") { $0.body == "first" }
            #expect(begun.head?.status == 101)
            #expect(begun.head?.fields.first("upgrade") == "WebSocket")
            #expect(begun.head?.fields.contains("connection") == false)
            #expect(origin.log.value.requests[0].field("connection") == "upgrade")
            #expect(origin.log.value.requests[0].field("upgrade") == "websocket")
            try await call.send("ping")
            try await origin.log.wait("the bytes") { $0.raw == "ping" }
            try await call.finish()
            try await origin.log.wait("half-close") { $0.ends == 1 }
            #expect(!call.log.value.isOver)
            await origin.closeConnections()
            try await expect { try await call.over().isComplete }
            try await eventually("nothing is in flight") { rig.agent.agent.requestsInFlight == 0 }
        }
    }

    @Test("Bytes that arrive together with the client's end reach an origin that has half-closed before")
    func lastBytes() async throws {
        let origin = try await TestOrigin { peer, _ in
            peer.switchToRaw()
            peer.write("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
            peer.closeOutput()
        }
        try await Rig.with(origin) { rig in
            let call = try await rig.gateway.call(try await rig.head(fields: Self.asks), finish: false)
            try await call.log.wait("the end of the origin's direction") { $0.head != nil && $0.isOver }
            try await call.send("last", finish: true)
            try await origin.log.wait("the last bytes") { $0.raw == "last" && $0.open == 0 }
        }
    }

    @Test("An upgrade that the origin refuses is an ordinary response on a connection that stays open")
    func refused() async throws {
        let origin = try await TestOrigin.simple("no")
        try await Rig.with(origin) { rig in
            let call = try await rig.gateway.call(try await rig.head(fields: Self.asks), finish: false)
            let answer = try await call.over()
            #expect(answer.isComplete && answer.head?.status == 200 && answer.body == "no")
            #expect(answer.stopped == nil)
            try await call.finish()
            try await expect { try await rig.get().isComplete }
            #expect(origin.log.value.connections == 1)
        }
    }

    @Test("A 101 without a request for it, or to another protocol, is ORIGIN_PROTOCOL")
    func unrequested() async throws {
        try await Rig.with(try await Self.switching()) { rig in
            try await expect { try await rig.get().code == .originProtocol }
            let other = FieldSection(["Upgrade": "h2c"])
            try await expect { try await rig.get("/", other).code == .originProtocol }
        }
    }

    @Test("A client that cancels an upgraded connection closes the origin's")
    func cancelled() async throws {
        let origin = try await Self.switching()
        try await Rig.with(origin) { rig in
            let call = try await rig.gateway.call(try await rig.head(fields: Self.asks), finish: false)
            try await call.log.wait("101") { $0.head != nil }
            try await call.cancel()
            try await origin.log.wait("reset") { $0.open == 0 }
        }
    }
}
