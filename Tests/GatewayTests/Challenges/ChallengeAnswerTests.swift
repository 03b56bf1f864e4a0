import Gateway
import HopProtocol
import NIOCore
import Settings
import TestSupport
import Testing

@Suite("Answers to HTTP-01 validators")
struct ChallengeAnswerTests {
    @Test("A challenge is answered before redirects, for any host and port, as RFC 8555 §8.3 requires")
    func answers() async throws {
        try await TestGateway.with(loops: 1, { $0.acme = .forTests }) { gateway in
            let token = newToken()
            try await gateway.presenter.present([try challenge(token)])
            for host in ["app.test", "app.test:80", "APP.test:5002", "unknown.test", "192.0.2.1", "[2001:db8::1]:80"] {
                let response = try await gateway.validate(token, host: host)
                #expect(response.status == 200)
                #expect(response.body == "\(token).\(thumbprint)")
                #expect(response["content-type"] == "application/octet-stream")
                #expect(response["content-length"] == "\(response.body.utf8.count)")
                #expect(response["cache-control"] == "no-store")
                #expect(response["connection"] == "keep-alive")
            }
            #expect(try await gateway.metric(#"hopgate_acme_http_challenges_total{result="answered"}"#) == 6)
            // Also on HTTPS, after a redirect.
            let client = try await TestClient.https(gateway)
            let response = try await client.exchange("GET \(challengePath)\(token) HTTP/1.1\r\nHost: app.test\r\n\r\n")
            #expect(response.status == 200 && response.body == "\(token).\(thumbprint)")
            let task = try challenge(token)
            try await gateway.presenter.withdraw([task])
            #expect(try await gateway.validate(token).status == 301)
        }
    }

    @Test("HEAD, HTTP/1.0 and pipelined requests are answered correctly")
    func forms() async throws {
        try await TestGateway.with(loops: 1, { $0.acme = .forTests }) { gateway in
            let token = newToken()
            try await gateway.presenter.present([try challenge(token)])
            let body = "\(token).\(thumbprint)"
            let path = challengePath + token
            let client = try await gateway.plain()
            try await client.send(
                """
                HEAD \(path) HTTP/1.1\r\nHost: app.test\r\n\r\n\
                GET \(path)?x=1 HTTP/1.1\r\nHost: app.test\r\n\r\n\
                GET \(challengePath)unknown HTTP/1.1\r\nHost: app.test\r\n\r\n\
                GET http://app.test\(path) HTTP/1.1\r\nHost: app.test\r\n\r\n\
                GET \(challengePath)unknown2 HTTP/1.1\r\nHost: other.test\r\n\r\n\
                POST \(path) HTTP/1.1\r\nHost: app.test\r\nContent-Length: 2\r\n\r\nab
                """
            )
            try await eventually("six responses") { client.text.split(separator: "HTTP/1.1 ").count == 6 }
            let answers = client.text.split(separator: "HTTP/1.1 ")
            #expect(answers.map { String($0.prefix(3)) } == ["200", "200", "301", "200", "404", "308"])
            #expect(answers.map { $0.contains(body) } == [false, true, false, true, false, false])
            #expect(answers[1].contains("Content-Length: \(body.utf8.count)\r\n"))
            await client.close()

            let old = try await gateway.plain()
            try await old.send("GET \(path) HTTP/1.0\r\nHost: app.test\r\n\r\n")
            try await old.waitForClose()
            #expect(TestResponse(old.text)?.body == body)
            let kept = try await gateway.plain()
            for _ in 0..<2 {
                let text = "GET \(path) HTTP/1.0\r\nHost: app.test\r\nConnection: keep-alive\r\n\r\n"
                #expect(try await kept.exchange(text).body == body)
            }
            await kept.close()
        }
    }

    @Test("A request for an unknown token goes to the service, which may have its own ACME client")
    func services() async throws {
        try await TestGateway.with(loops: 1, { $0.acme = .forTests }) { gateway in
            let agent = try await TestAgent.attach(to: gateway) { $0.answer(200, "the service's own") }
            let client = try await TestClient.https(gateway)
            for token in ["unknown", "unknown", "not%20a%20token", "a/b", String(repeating: "a", count: 129)] {
                let response = try await client.exchange(
                    "GET \(challengePath)\(token) HTTP/1.1\r\nHost: app.test\r\n\r\n"
                )
                #expect(response.status == 200, "\(token)")
            }
            #expect(agent.requests.count == 5)
            #expect(agent.requests.first?.head?.path == "\(challengePath)unknown")
            #expect(try await gateway.metric(#"hopgate_acme_http_challenges_total{result="unknown"}"#) == 2)
        }
    }

    @Test(
        "Tokens that no CA uses are not answered and cause no failure",
        arguments: ["%2e%2e", "a%2fb", "a/../b", "\u{e4}", "a\0b", String(repeating: "a", count: 10_000)]
    )
    func hostile(token: String) async throws {
        try await TestGateway.with(loops: 1, { $0.acme = .forTests }) { gateway in
            let good = newToken()
            try await gateway.presenter.present([try challenge(good)])
            let response = try await gateway.validate(token)
            #expect(response.status == 301 || response.status == 400, "\(response.status)")
            #expect(!response.body.contains(thumbprint))
            #expect(try await gateway.validate(good).status == 200)
        }
    }

    @Test("A gateway without ACME treats the path like any other")
    func unused() async throws {
        try await TestGateway.with(loops: 1) { gateway in
            #expect(gateway.process.presenter == nil)
            let known = try await gateway.validate("token")
            let unknown = try await gateway.validate("token", host: "other.test")
            #expect(known.status == 301 && unknown.status == 404)
        }
    }
}
