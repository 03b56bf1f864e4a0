import ACME
import Certificates
import Foundation
import NIOCore
import Outbound
import Testing

@Suite("A server as DNS hook")
struct HTTPHookTests {
    private let task = hookTask("a.test")

    /// A hook at a server that answers with these bytes.
    private func withHook(
        _ answer: String,
        path: String = "/dns/",
        credential: String? = nil,
        timeout: TimeAmount = .seconds(20),
        _ body: (HTTPHook, HookServer) async throws -> Void
    ) async throws {
        let server = try await HookServer(answer)
        let client = OutboundClient(userAgent: "hopgate/test", usesProxy: false)
        let hook = HTTPHook(
            ACMEURL("http://127.0.0.1:\(server.port)\(path)")!,
            credential: credential.flatMap { HookCredential($0) },
            client: client,
            timeout: timeout
        )
        do {
            try await body(hook, server)
        } catch {
            Issue.record("\(error)")
        }
        await client.close()
        await server.stop()
    }

    private func present(_ hook: HTTPHook) async -> String {
        await message { () async throws(PresentationError) in try await hook.perform(.present, task) }
    }

    private static let ok = "HTTP/1.1 204 No Content\r\n\r\n"

    private static func answer(_ status: String, _ body: String) -> String {
        "HTTP/1.1 \(status)\r\nContent-Length: \(body.utf8.count)\r\n\r\n\(body)"
    }

    @Test("Record and value are sent below the URL, in the form of httpreq")
    func protocolOfHTTPRequest() async throws {
        for path in ["/dns/", "/dns"] {
            try await withHook(Self.ok, path: path) { hook, server in
                try await hook.perform(.present, task)
                try await hook.perform(.cleanUp, task)
                let body = "{\"fqdn\":\"_acme-challenge.a.test.\",\"value\":\"\(task.recordValue)\"}"
                #expect(server.requests.map(\.line) == ["POST /dns/present HTTP/1.1", "POST /dns/cleanup HTTP/1.1"])
                #expect(server.requests.map(\.body) == [body, body])
                #expect(server.requests.allSatisfy { $0.fields["content-type"] == "application/json" })
                #expect(server.requests.allSatisfy { $0.fields["authorization"] == nil })
            }
        }
        try await withHook(Self.ok, path: "") { hook, server in
            try await hook.perform(.present, task)
            #expect(server.requests.map(\.line) == ["POST /present HTTP/1.1"])
        }
    }

    @Test("A token is sent as a bearer token, a name and password as such")
    func credentials() async throws {
        try await withHook(Self.ok, credential: "t0ken") { hook, server in
            try await hook.perform(.present, task)
            #expect(server.requests[0].fields["authorization"] == "Bearer t0ken")
        }
        try await withHook(Self.ok, credential: "me:pass word?>") { hook, server in
            try await hook.perform(.present, task)
            let expected = Data("me:pass word?>".utf8).base64EncodedString()
            #expect(server.requests[0].fields["authorization"] == "Basic \(expected)")
        }
        for text in ["", "a b", "a\nb", ":pass", "a:b\n", String(repeating: "x", count: 5_000), "ü"] {
            #expect(HookCredential(text) == nil, "\(text.prefix(10))")
        }
        #expect("\(HookCredential("t0ken")!)" == "(not shown)")
    }

    @Test("A response without success is reported with its first line, sanitised")
    func refused() async throws {
        try await withHook(Self.answer("500 Oops", "\r\n zone \u{1B}[31m is locked\nsecond")) { hook, server in
            let url = "http://127.0.0.1:\(server.port)/dns/present"
            #expect(
                await present(hook)
                    == "the DNS hook answered 500 to POST \(url) for _acme-challenge.a.test: zone ?[31m is locked"
            )
        }
        try await withHook(Self.answer("401 No", "")) { hook, _ in
            #expect(await present(hook).hasSuffix("_acme-challenge.a.test; check acme.dns.hook_token"))
        }
        try await withHook(Self.answer("404 No", "none")) { hook, _ in
            #expect(
                await present(hook).hasSuffix(
                    "_acme-challenge.a.test: none; acme.dns.hook has to be the URL below which \"present\" and \"cleanup\" are"
                )
            )
        }
        try await withHook(Self.answer("400 No", String(repeating: "x", count: 500_000))) { hook, _ in
            #expect(await present(hook).utf8.count < 500)
        }
    }

    @Test("A server that hangs is bounded by the deadline, and one that sends too much is refused")
    func hostile() async throws {
        try await withHook("", timeout: .milliseconds(200)) { hook, _ in
            let text = await present(hook)
            #expect(text.hasPrefix("the DNS hook was not reached for _acme-challenge.a.test: "))
            #expect(text.hasSuffix("no response in time"))
        }
        try await withHook(Self.answer("200 OK", String(repeating: "x", count: 3 << 20))) { hook, _ in
            #expect(await present(hook).contains("not reached"))
        }
        try await withHook("garbage\r\n\r\n") { hook, _ in
            #expect(await present(hook).contains("not reached"))
        }
    }

    @Test("Redirects to other servers are refused", arguments: [301, 302, 303, 307, 308])
    func redirects(_ status: Int) async throws {
        let other = try await HookServer(Self.ok)
        let location = "http://127.0.0.1:\(other.port)/elsewhere"
        let answer = "HTTP/1.1 \(status) Found\r\nLocation: \(location)\r\nContent-Length: 0\r\n\r\n"
        try await withHook(answer, credential: "secret") { hook, server in
            let text = await present(hook)
            #expect(text.contains("DNS hook") && !text.contains("secret"))
            #expect(server.requests.count == 1)
        }
        #expect(other.requests.isEmpty)
        await other.stop()
    }

    @Test("A server that cannot be reached is reported")
    func missing() async throws {
        let server = try await HookServer(Self.ok)
        await server.stop()
        let client = OutboundClient(userAgent: "hopgate/test", usesProxy: false)
        let hook = HTTPHook(ACMEURL("http://127.0.0.1:\(server.port)/")!, client: client)
        #expect(await present(hook).hasPrefix("the DNS hook was not reached for _acme-challenge.a.test: "))
        await client.close()
    }
}
