import Agent
import HopProtocol
import NIOCore
import TestSupport
import Testing

@Suite(.serialized)
struct FailureTests {
    @Test(
        "A response that ends early is ORIGIN_ABORTED, never a clean end",
        arguments: [
            "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabc", "HTTP/1.1 200 OK\r\nContent-Le",
            "HTTP/1.1 1",
        ]
    )
    func truncated(answer: String) async throws {
        let origin = try await TestOrigin { peer, _ in
            peer.write(answer)
            peer.close()
        }
        try await Rig.with(origin) { rig in
            let log = try await rig.get()
            #expect(!log.isComplete)
            #expect(log.code == .originAborted)
        }
    }

    @Test("A connection that breaks within a body delimited by its close is ORIGIN_ABORTED")
    func brokenUntilClose() async throws {
        let origin = try await TestOrigin { peer, _ in peer.write("HTTP/1.1 200 OK\r\n\r\npart") }
        try await Rig.with(origin) { rig in
            let call = try await rig.gateway.call(try await rig.head())
            try await call.log.wait("the part") { $0.body == "part" }
            await origin.abortConnections()
            try await expect { try await call.over().code == .originAborted }
        }
    }

    @Test("An origin that closes without a response is ORIGIN_ABORTED")
    func silentClose() async throws {
        let origin = try await TestOrigin { peer, _ in peer.close() }
        try await Rig.with(origin) { rig in
            try await expect { try await rig.get().code == .originAborted }
            #expect(origin.log.value.requests.count == 1)
        }
    }

    @Test("A response that is not HTTP/1.1 is ORIGIN_PROTOCOL, and the connection is closed")
    func badFraming() async throws {
        let origin = try await TestOrigin { peer, _ in
            peer.write("HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n")
        }
        try await Rig.with(origin) { rig in
            try await expect { try await rig.get().code == .originProtocol }
            try await origin.log.wait("closed") { $0.open == 0 }
        }
    }

    @Test("Bytes behind a response do not become part of the next one")
    func extraBytes() async throws {
        let origin = try await TestOrigin { peer, _ in
            peer.write("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil")
        }
        try await Rig.with(origin) { rig in
            try await expect { try await rig.get().body == "ok" }
            try await expect { try await rig.get().body == "ok" }
            #expect(origin.log.value.connections == 2)
        }
    }

    @Test("An origin that is down is ORIGIN_UNREACHABLE, and the request may be sent again")
    func unreachable() async throws {
        let origin = try await TestOrigin.simple()
        try await Rig.with(origin) { rig in
            await origin.disappear()
            let head = try await rig.head("POST")
            let first = try await rig.gateway.call(head).over()
            #expect(first.code == .originUnreachable)
            var again = head
            again.attempt = 2
            try await expect { try await rig.gateway.call(again).over().code == .originUnreachable }
            try await expect { try await rig.agent.line("origin unreachable") != nil }
        }
    }

    @Test("An origin that does not respond in time is ORIGIN_TIMEOUT, and its connection is closed")
    func timeout() async throws {
        let origin = try await TestOrigin { _, _ in }
        try await Rig.with(origin) { rig in
            let log = try await rig.gateway.call(try await rig.head(deadline: .milliseconds(200))).over()
            #expect(log.code == .originTimeout)
            try await origin.log.wait("closed") { $0.open == 0 }
        }
    }

    @Test("A request that the client cancels closes the origin's connection at once")
    func cancelled() async throws {
        let origin = try await TestOrigin { peer, _ in
            peer.write("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc")
        }
        try await Rig.with(origin) { rig in
            let call = try await rig.gateway.call(try await rig.head())
            try await call.log.wait("part of the answer") { $0.body == "abc" }
            try await call.cancel()
            try await origin.log.wait("closed", within: .seconds(2)) { $0.open == 0 }
            try await eventually("nothing is in flight") { rig.agent.agent.requestsInFlight == 0 }
        }
    }

    @Test("An upload that is cut off is never completed at the origin")
    func cutUpload() async throws {
        let completed = Observed(0)
        let origin = try await TestOrigin { _, _ in completed.update { $0 += 1 } }
        try await Rig.with(origin) { rig in
            for (count, fields) in [(1, FieldSection(["Content-Length": "10"])), (2, FieldSection())] {
                let call = try await rig.gateway.call(
                    try await rig.head("POST", fields: fields),
                    body: ByteBuffer(string: "half"),
                    finish: false
                )
                try await origin.log.wait("the half") {
                    $0.requests.count == count && $0.requests[count - 1].rawBytes > 0
                }
                try await call.cancel()
                try await origin.log.wait("closed") { $0.open == 0 }
            }
            // FIN before the whole Content-Length counts as cut off.
            let call = try await rig.gateway.call(
                try await rig.head("POST", fields: FieldSection(["Content-Length": "10"])),
                body: ByteBuffer(string: "half")
            )
            try await expect { try await call.over().code == .cancelled }
            #expect(completed.value == 0)
        }
    }

    @Test("An early response is complete, followed by STOP_SENDING(NO_ERROR); the connection is not reused")
    func earlyResponse() async throws {
        let origin = try await TestOrigin(onHead: { peer, request in
            if request.requestLine.contains("early") {
                peer.write("HTTP/1.1 413 Too Large\r\nContent-Length: 3\r\n\r\nbig")
            }
        }) { peer, _ in peer.write("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n") }
        try await Rig.with(origin) { rig in
            let call = try await rig.gateway.call(
                try await rig.head("POST", "/early", fields: FieldSection(["Content-Length": "1000000"])),
                body: ByteBuffer(string: "some"),
                finish: false
            )
            let answer = try await call.over()
            #expect(answer.isComplete && answer.head?.status == 413 && answer.body == "big")
            try await call.log.wait("STOP_SENDING") { $0.stopped == .noError }
            try await expect { try await rig.get().isComplete }
            #expect(origin.log.value.connections == 2)
        }
    }

    @Test("An idempotent request survives a stale pooled connection")
    func stalePooled() async throws {
        // Closes each connection when the second request on it arrives, without a response.
        let served = Observed(0)
        let origin = try await TestOrigin { peer, _ in
            served.update { $0 += 1 }
            if served.value == 2 {
                peer.close()
            } else {
                peer.write("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
            }
        }
        try await Rig.with(origin) { rig in
            try await expect { try await rig.get().isComplete }
            let second = try await rig.get()
            #expect(second.isComplete && second.body == "ok")
            #expect(served.value == 3)
            #expect(origin.log.value.connections == 2)
        }
    }

    @Test("An origin that disappears after it received the request is ORIGIN_ABORTED, not ORIGIN_UNREACHABLE")
    func goneAfterRetry() async throws {
        let origin = try await TestOrigin { peer, request in
            if request.requestLine.contains("hang") { return }
            peer.write("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        }
        try await Rig.with(origin) { rig in
            try await expect { try await rig.get().isComplete }
            let call = try await rig.gateway.call(try await rig.head("GET", "/hang"))
            try await origin.log.wait("the request, on the pooled connection") {
                $0.requests.count == 2 && $0.connections == 1
            }
            // The listener is closed first, so that the retry cannot connect.
            await origin.disappear()
            try await expect { try await call.over().code == .originAborted }
            try await expect { try await rig.agent.line("origin unreachable") != nil }
        }
    }

    @Test("A non-idempotent request is not repeated on a fresh connection")
    func staleNotIdempotent() async throws {
        let served = Observed(0)
        let origin = try await TestOrigin { peer, _ in
            served.update { $0 += 1 }
            if served.value == 2 {
                peer.close()
            } else {
                peer.write("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
            }
        }
        try await Rig.with(origin) { rig in
            try await expect { try await rig.get().isComplete }
            try await expect { try await rig.gateway.call(try await rig.head("POST")).over().code == .originAborted }
            #expect(served.value == 2)
        }
    }

    @Test("A fresh connection that closes without a response is not retried")
    func freshIsNotRetried() async throws {
        let origin = try await TestOrigin { peer, _ in peer.close() }
        try await Rig.with(origin) { rig in
            try await expect { try await rig.get().code == .originAborted }
            #expect(origin.log.value.connections == 1)
        }
    }

    @Test("Redirects are forwarded, not followed")
    func redirect() async throws {
        let origin = try await TestOrigin { peer, _ in
            peer.write("HTTP/1.1 302 Found\r\nLocation: http://192.0.2.1/\r\nContent-Length: 0\r\n\r\n")
        }
        try await Rig.with(origin) { rig in
            let answer = try await rig.get()
            #expect(answer.head?.status == 302)
            #expect(answer.head?.fields.first("location") == "http://192.0.2.1/")
        }
    }
}
