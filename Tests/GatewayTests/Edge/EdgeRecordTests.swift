import Gateway
import NIOCore
import Testing

@Suite("Records of requests that the edge answers itself")
struct EdgeRecordTests {
    @Test("Redirects, their 404 and refused heads have an access line and count as requests")
    func ownAnswers() async throws {
        let log = try TestLog()
        try await TestGateway.with(loops: 1, log: log) { gateway in
            let plain = try await TestClient.connect(to: gateway.process.httpAddress, serverName: nil)
            _ = try await plain.exchange("GET /a?b HTTP/1.1\r\nHost: app.test\r\n\r\n")
            _ = try await plain.exchange("POST /c HTTP/1.1\r\nHost: other.test\r\nContent-Length: 0\r\n\r\n")
            let refused = try await TestClient.https(gateway)
            try await refused.send("CONNECT app.test:443 HTTP/1.1\r\nHost: app.test\r\n\r\n")
            try await refused.waitForClose()
            let malformed = try await TestClient.https(gateway)
            try await malformed.send("nonsense\r\n\r\n")
            try await malformed.waitForClose()

            let lines = try log.lines.filter { $0.contains("\"msg\":\"request\"") }
            #expect(lines.count == 4)
            for part in [
                ["\"method\":\"GET\",\"host\":\"app.test\",\"path\":\"/a\"", "\"status\":301"],
                ["\"method\":\"POST\",\"host\":\"other.test\",\"path\":\"/c\"", "\"status\":404,", "unknown_host"],
                ["\"method\":\"CONNECT\"", "\"status\":405,", "bad_method"],
                ["\"method\":\"-\"", "\"status\":400,", "malformed"],
            ] {
                #expect(lines.contains { line in part.allSatisfy { line.contains($0) } }, "\(part) in \(lines)")
            }
            let ops = try await TestClient.connect(to: gateway.process.opsAddress, serverName: nil)
            let metrics = try await ops.exchange("GET /metrics HTTP/1.1\r\nHost: ops\r\n\r\n").body
            for labels in [
                "code=\"301\",method=\"GET\"", "code=\"404\",method=\"POST\"", "code=\"405\",method=\"other\"",
                "code=\"400\",method=\"other\"",
            ] {
                #expect(
                    metrics.contains("hopgate_http_requests_total{\(labels),protocol=\"HTTP/1.1\"} 1\n"),
                    "\(labels)"
                )
            }
        }
    }
}
