import Agent
import HopProtocol
import NIOCore
import TestSupport
import Testing
import Transport

@Suite(.serialized)
struct ForwardingTests {
    @Test("A request reaches the origin and its response returns, hop-by-hop fields removed both ways")
    func simple() async throws {
        let origin = try await TestOrigin { peer, _ in
            peer.write(
                "HTTP/1.1 201 Created\r\nContent-Length: 5\r\nSet-Cookie: a=1\r\nset-cookie: b=2\r\n"
                    + "Connection: keep-alive, X-Own\r\nX-Own: 1\r\nKeep-Alive: timeout=5\r\nX-Kept: \u{e9}\r\n\r\nhello"
            )
        }
        try await Rig.with(origin) { rig in
            let fields = FieldSection([
                "X-One": "1", "Connection": "close", "Proxy-Authorization": "x", "TE": "gzip", "cookie": "a",
                "Cookie": "b",
                "Host": "evil.test", "X-Empty": "",
            ])
            let answer = try await rig.get("/a%20b?c=%2F", fields)
            #expect(answer.isAccepted && answer.isComplete)
            #expect(answer.head?.status == 201)
            #expect(answer.head?.fields.map(\.name) == ["Content-Length", "Set-Cookie", "set-cookie", "X-Kept"])
            #expect(answer.head?.fields.all("set-cookie") == ["a=1", "b=2"])
            #expect(answer.head?.fields.first("x-kept") == "\u{e9}")
            #expect(answer.body == "hello")
            let request = try #require(origin.log.value.requests.first)
            #expect(request.requestLine == "GET /a%20b?c=%2F HTTP/1.1")
            #expect(request.fieldNames == ["Host", "X-One", "cookie", "Cookie", "X-Empty"])
            #expect(request.field("host") == "app.test")
        }
    }

    @Test("A kept-alive connection serves the next request; Connection: close ends it")
    func pooled() async throws {
        let origin = try await TestOrigin { peer, request in
            let close = request.requestLine.contains("close")
            peer.write("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\(close ? "Connection: close\r\n" : "")\r\n")
        }
        try await Rig.with(origin) { rig in
            for _ in 0..<5 { try await expect { try await rig.get().isComplete } }
            #expect(origin.log.value.connections == 1)
            try await expect { try await rig.get("/close").isComplete }
            try await expect { try await rig.get().isComplete }
            #expect(origin.log.value.connections == 2)
        }
    }

    @Test("A body with Content-Length and one without arrive with their framing")
    func uploads() async throws {
        let origin = try await TestOrigin { peer, request in
            peer.write(
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3;x=y\r\nabc\r\n2\r\nde\r\n0\r\nX-Sum: 5\r\n\r\n"
            )
        }
        try await Rig.with(origin) { rig in
            let sized = try await rig.gateway.call(
                try await rig.head("POST", fields: FieldSection(["Content-Length": "10"])),
                body: ByteBuffer(string: "0123456789")
            ).over()
            #expect(sized.isComplete)
            #expect(sized.body == "abcde")
            #expect(sized.head?.fields.contains("content-length") == false)
            #expect(sized.head?.fields.contains("transfer-encoding") == false)
            #expect(sized.trailers == FieldSection(["X-Sum": "5"]))
            let chunked = try await rig.gateway.call(
                try await rig.head("PUT"),
                body: ByteBuffer(string: "0123456789abcdef!"),
                trailers: FieldSection(["X-End": "1"])
            ).over()
            #expect(chunked.isComplete)
            let requests = origin.log.value.requests
            #expect(requests[0].field("content-length") == "10")
            #expect(requests[0].raw == "0123456789")
            #expect(requests[1].field("transfer-encoding") == "chunked")
            #expect(requests[1].raw == "11\r\n0123456789abcdef!\r\n0\r\nX-End: 1\r\n\r\n")
            #expect(origin.log.value.connections == 1)
        }
    }

    @Test("A request without a body has no framing, but POST announces a length of 0")
    func withoutBody() async throws {
        let origin = try await TestOrigin.simple()
        try await Rig.with(origin) { rig in
            for method in ["GET", "DELETE", "POST"] {
                try await expect { try await rig.gateway.call(try await rig.head(method)).over().isComplete }
            }
            let requests = origin.log.value.requests
            #expect(requests.map { $0.field("transfer-encoding") } == [nil, nil, nil])
            #expect(requests.map { $0.field("content-length") } == [nil, nil, "0"])
        }
    }

    @Test("A request is sent before its body if the client waits for 100 Continue")
    func streamingRequest() async throws {
        let origin = try await TestOrigin(onHead: { peer, _ in
            peer.write("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n")
        }) { peer, _ in peer.write("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok") }
        try await Rig.with(origin) { rig in
            let call = try await rig.gateway.call(
                try await rig.head("POST", fields: FieldSection(["Expect": "100-continue"])),
                finish: false
            )
            let begun = try await call.log.wait("interim heads") { $0.interim.count == 2 }
            #expect(begun.interim.map(\.status) == [100, 103])
            #expect(begun.interim[1].fields == FieldSection(["Link": "</a>"]))
            try await call.send("body", finish: true)
            let answer = try await call.over()
            #expect(answer.isComplete && answer.body == "ok")
            #expect(origin.log.value.requests[0].raw == "4\r\nbody\r\n0\r\n\r\n")
        }
    }

    @Test("HEAD, 204 and 304 have no body, and leave the connection usable")
    func bodiless() async throws {
        let origin = try await TestOrigin { peer, request in
            let status = request.requestLine.split(separator: "/")[1].prefix(3)
            peer.write("HTTP/1.1 \(status) X\r\nContent-Length: 5\r\n\r\n")
        }
        try await Rig.with(origin) { rig in
            let head = try await rig.gateway.call(try await rig.head("HEAD", "/200")).over()
            #expect(head.isComplete && head.head?.fields.first("content-length") == "5")
            let notModified = try await rig.get("/304")
            #expect(notModified.isComplete && notModified.head?.status == 304)
            let empty = try await rig.get("/204")
            #expect(empty.isComplete && empty.head?.fields.contains("content-length") == false)
            #expect(origin.log.value.connections == 1)
        }
    }

    @Test("A body delimited by the close of the connection is complete")
    func untilClose() async throws {
        let origin = try await TestOrigin { peer, _ in
            peer.write("HTTP/1.0 200 OK\r\n\r\nall of it")
            peer.close()
        }
        try await Rig.with(origin) { rig in
            let answer = try await rig.get()
            #expect(answer.isComplete && answer.body == "all of it")
        }
    }

    @Test("32 MiB arrive unchanged in both directions")
    func bulk() async throws {
        let size = 32 << 20
        let origin = try await TestOrigin { peer, request in
            peer.write("HTTP/1.1 200 OK\r\nContent-Length: \(size)\r\nX-Got: \(request.rawBytes)\r\n\r\n")
            peer.pour(size) { _ in }
        }
        try await Rig.with(origin) { rig in
            let call = try await rig.gateway.call(
                try await rig.head("PUT", deadline: .seconds(60), fields: FieldSection(["Content-Length": "\(size)"])),
                finish: false
            )
            try await call.pour(size)
            let answer = try await call.log.wait("all of it", within: .seconds(120)) { $0.isOver }
            #expect(answer.isComplete)
            #expect(answer.head?.fields.first("x-got") == "\(size)")
            #expect(answer.bytes == size)
            #expect(answer.checksum == .ofPattern(size))
        }
    }

    @Test("A reader that gives no credit stops the origin, not the agent")
    func backPressure() async throws {
        let size = 64 << 20
        let poured = Observed(0)
        let origin = try await TestOrigin { peer, request in
            if request.requestLine.contains("big") {
                peer.write("HTTP/1.1 200 OK\r\nContent-Length: \(size)\r\n\r\n")
                @Sendable func more(_ peer: OriginPeer) {
                    poured.update { $0 += 1 << 20 }
                    if poured.value < size { peer.pour(1 << 20, then: more) }
                }
                peer.pour(1 << 20, then: more)
            } else {
                peer.write("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
            }
        }
        try await Rig.with(origin) { rig in
            let slow = try await rig.gateway.call(try await rig.head("GET", "/big"), holdsCredit: true)
            try await slow.log.wait("half of the first window") { $0.bytes >= 32 << 10 }
            // Other requests are served meanwhile; the origin could only write what sockets and windows hold.
            for _ in 0..<200 { try await expect { try await rig.get().isComplete } }
            #expect(poured.value < 32 << 20)
            #expect(slow.log.value.bytes <= 1 << 20)
            try await slow.cancel()
            try await origin.log.wait("the origin's connection closed") { $0.open == 1 }
        }
    }

    @Test("An origin that does not read stops the upload at the window")
    func uploadBackPressure() async throws {
        let origin = try await TestOrigin(onHead: { peer, _ in peer.stopReading() }) { _, _ in }
        try await Rig.with(origin) { rig in
            let call = try await rig.gateway.call(
                try await rig.head("PUT", fields: FieldSection(["Content-Length": "\(256 << 20)"])),
                finish: false
            )
            try await call.pour(256 << 20)
            // Only a part was written, and the rest waits for credit.
            try await call.waitUntilBlocked()
            try await call.cancel()
            try await origin.log.wait("the origin's connection closed") { $0.open == 0 }
        }
    }

    @Test("200 concurrent requests over one tunnel are all answered")
    func concurrent() async throws {
        let origin = try await TestOrigin { peer, request in
            let path = request.requestLine.split(separator: " ")[1]
            peer.write("HTTP/1.1 200 OK\r\nContent-Length: \(path.utf8.count)\r\n\r\n\(path)")
        }
        try await Rig.with(origin) { rig in
            try await withThrowingTaskGroup(of: Void.self) { tasks in
                for index in 0..<200 {
                    tasks.addTask {
                        let answer = try await rig.get("/\(index)")
                        #expect(answer.isComplete && answer.body == "/\(index)")
                    }
                }
                try await tasks.waitForAll()
            }
            try await eventually("nothing is in flight") { rig.agent.agent.requestsInFlight == 0 }
        }
    }
}
