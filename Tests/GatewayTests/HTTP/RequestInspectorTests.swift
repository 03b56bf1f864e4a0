import Gateway
import HopProtocol
import NIOHTTP1
import Testing

@Suite("Checks of a request head at the edge")
struct RequestInspectorTests {
    private typealias Fields = [(String, String)]

    private func inspect(
        _ method: HTTPMethod,
        _ target: String,
        version: HTTPVersion = .http1_1,
        _ fields: Fields
    ) -> Result<EdgeRequest, ProxyError> {
        RequestInspector.inspect(
            HTTPRequestHead(version: version, method: method, uri: target, headers: HTTPHeaders(fields))
        )
    }

    private func inspect(_ fields: Fields) -> Result<EdgeRequest, ProxyError> { inspect(.GET, "/", fields) }

    private func inspect(_ method: HTTPMethod, _ fields: Fields) -> Result<EdgeRequest, ProxyError> {
        inspect(method, "/", fields)
    }

    private func inspect(version: HTTPVersion, _ fields: Fields) -> Result<EdgeRequest, ProxyError> {
        inspect(.GET, "/", version: version, fields)
    }

    private func refusal(
        _ method: HTTPMethod,
        _ target: String,
        version: HTTPVersion = .http1_1,
        _ fields: Fields
    ) -> ProxyError? {
        if case .failure(let refusal) = inspect(method, target, version: version, fields) { refusal } else { nil }
    }

    private func refusal(_ fields: Fields) -> ProxyError? { refusal(.GET, "/", fields) }

    private func refusal(_ method: HTTPMethod, version: HTTPVersion = .http1_1, _ fields: Fields) -> ProxyError? {
        refusal(method, "/", version: version, fields)
    }

    private func refusal(version: HTTPVersion, _ fields: Fields) -> ProxyError? {
        refusal(.GET, "/", version: version, fields)
    }

    private func forwarded(_ fields: [(String, String)], client: String = "192.0.2.7") throws -> FieldSection {
        let request = try inspect([("Host", "app.test")] + fields).get()
        return request.forwardedFields(
            client: ClientIdentity(address: client),
            scheme: "https",
            requestID: "0123"
        )
    }

    private func names(_ section: FieldSection) -> [String] { section.map { $0.name.lowercased() } }

    @Test("Fields are forwarded unchanged, in their order, with duplicates")
    func order() throws {
        let section = try forwarded([("B", "2"), ("a", "1"), ("B", "3"), ("Cookie", "x=y"), ("Content-Length", "3")])
        #expect(Array(names(section).prefix(5)) == ["b", "a", "b", "cookie", "content-length"])
        #expect(section.all("b") == ["2", "3"])
    }

    @Test("Hop-by-hop fields and those that Connection names are removed")
    func hopByHop() throws {
        let section = try forwarded([
            ("Connection", "close, X-One ,, x-two"), ("connection", "X-Three"), ("X-One", "1"), ("X-Two", "2"),
            ("x-three", "3"), ("X-Four", "4"), ("Keep-Alive", "timeout=5"), ("Proxy-Connection", "keep-alive"),
            ("Proxy-Authorization", "Basic x"), ("TE", "gzip"), ("Upgrade", "h2c"), ("HTTP2-Settings", "AAA"),
        ])
        #expect(section.first("x-four") == "4")
        for name in [
            "connection", "x-one", "x-two", "x-three", "keep-alive", "proxy-connection", "proxy-authorization", "te",
            "upgrade", "http2-settings", "host",
        ] {
            #expect(!section.contains(name), "\(name)")
        }
    }

    @Test("Connection cannot remove fields that frame or route the request")
    func namedAway() throws {
        let section = try forwarded([("Connection", "content-length, host, x-request-id"), ("Content-Length", "3")])
        #expect(section.first("content-length") == "3")
        #expect(section.first("x-request-id") == "0123")
    }

    @Test("TE is forwarded only if its value is trailers")
    func te() throws {
        #expect(try forwarded([("TE", "trailers")]).first("te") == "trailers")
        #expect(try !forwarded([("TE", "trailers, gzip")]).contains("te"))
        // RFC 9110 §10.1.4 requires this of a sender.
        #expect(try forwarded([("TE", "trailers"), ("Connection", "TE, X-One")]).first("te") == "trailers")
        #expect(try !forwarded([("TE", "gzip"), ("Connection", "TE")]).contains("te"))
    }

    @Test("Any Upgrade may stop the decoder, with or without Connection")
    func stopsDecoder() throws {
        #expect(try inspect([("Host", "a.test"), ("Connection", "Upgrade"), ("Upgrade", "h2c")]).get().stopsDecoder)
        let proxy = [("Host", "a.test"), ("Proxy-Connection", "Upgrade"), ("Upgrade", "h2c")]
        #expect(try inspect(proxy).get().stopsDecoder)
        #expect(try !inspect([("Host", "a.test"), ("Connection", "Upgrade")]).get().stopsDecoder)
    }

    @Test("Forwarding fields of the client are replaced, and their aliases with underscores removed")
    func identity() throws {
        let section = try forwarded(
            [
                ("X-Forwarded-For", "6.6.6.6"), ("x-forwarded-proto", "http"), ("X-Forwarded-Host", "evil"),
                ("Forwarded", "for=6.6.6.6"), ("X-Real-IP", "6.6.6.6"), ("X-Request-Id", "mine"),
                ("X_Forwarded_For", "6.6.6.6"), ("X-Forwarded_Proto", "http"), ("content_length", "7"),
                ("X_Other", "stays"),
            ],
            client: "2001:db8::1"
        )
        #expect(section.all("x-forwarded-for") == ["2001:db8::1"])
        #expect(section.all("x-forwarded-proto") == ["https"])
        #expect(section.all("x-forwarded-host") == ["app.test"])
        #expect(section.all("x-real-ip") == ["2001:db8::1"])
        #expect(section.all("x-request-id") == ["0123"])
        #expect(section.all("forwarded") == ["for=\"[2001:db8::1]\";host=app.test;proto=https"])
        #expect(!section.contains("x_forwarded_for"))
        #expect(!section.contains("x-forwarded_proto"))
        #expect(!section.contains("content_length"))
        #expect(section.first("x_other") == "stays")
    }

    @Test("There is exactly one valid Host")
    func host() {
        #expect(refusal([]) == .badHost)
        #expect(refusal([("Host", "a.test"), ("Host", "a.test")]) == .badHost)
        for host in [
            "", "a b", "a.test:", "a.test:0", "a.test:65536", "u@a.test", "a..test", ".a.test", "[::1", "a/b", "[]",
        ] {
            #expect(refusal([("Host", host)]) == .badHost, "\(host)")
        }
    }

    @Test("A host is compared in lower case, without port and final dot")
    func hostForms() throws {
        #expect(try inspect([("Host", "APP.Test.:8443")]).get().host == "app.test")
        #expect(try inspect([("Host", "[2001:DB8::1]:443")]).get().host == "[2001:db8::1]")
        #expect(RequestAuthority.parse("a.test:65535")?.port == 65_535)
        #expect(RequestAuthority.parse("10.0.0.1") == RequestAuthority.parse("10.0.0.1."))
    }

    @Test("The length of a body has to be unambiguous")
    func framing() throws {
        let host = ("Host", "app.test")
        #expect(refusal(.POST, [host, ("Content-Length", "1"), ("Content-Length", "1")]) == .badFraming)
        #expect(refusal(.POST, [host, ("Content-Length", "1, 1")]) == .badFraming)
        #expect(refusal(.POST, [host, ("Content-Length", "+1")]) == .badFraming)
        #expect(refusal(.POST, [host, ("Content-Length", "0x1")]) == .badFraming)
        #expect(refusal(.POST, [host, ("Content-Length", "9223372036854775808")]) == .badFraming)
        #expect(refusal(.POST, [host, ("Content-Length", "1"), ("Transfer-Encoding", "chunked")]) == .badFraming)
        #expect(refusal(.POST, version: .http1_0, [host, ("Transfer-Encoding", "chunked")]) == .badFraming)
        #expect(refusal(.POST, [host, ("Transfer-Encoding", "gzip")]) == .unknownTransferCoding)
        #expect(refusal(.POST, [host, ("Transfer-Encoding", "chunked, chunked")]) == .unknownTransferCoding)
        #expect(
            refusal(.POST, [host, ("Transfer-Encoding", "chunked"), ("Transfer-Encoding", "chunked")])
                == .unknownTransferCoding
        )
        #expect(try inspect(.POST, [host, ("Content-Length", "9223372036854775807")]).get().body == .length(.max))
        #expect(try inspect(.POST, [host, ("Transfer-Encoding", "Chunked")]).get().body == .chunked)
        #expect(try inspect(.POST, [host, ("Content-Length", "0")]).get().body == EdgeRequest.Body.none)
    }

    @Test("Targets are in origin form, in absolute form, or * for OPTIONS")
    func targets() throws {
        let host = ("Host", "app.test")
        #expect(try inspect(.GET, "HTTP://Other.test:80?q", [host]).get().target == "/?q")
        #expect(try inspect(.GET, "http://other.test:80/a", [host]).get().host == "other.test")
        #expect(try inspect(.OPTIONS, "http://other.test", [host]).get().target == "*")
        #expect(try inspect(.OPTIONS, "*", [host]).get().target == "*")
        #expect(try inspect(.GET, "/a%2Fb/../c;d?e=f&g", [host]).get().target == "/a%2Fb/../c;d?e=f&g")
        #expect(try inspect(.GET, "/a?b?c", [host]).get().path == "/a")
        #expect(refusal(.GET, "*", [host]) == .badTarget)
        #expect(refusal(.GET, "app.test/a", [host]) == .badTarget)
        #expect(refusal(.GET, "/a#b", [host]) == .badTarget)
        #expect(refusal(.GET, "/\u{FFFD}", [host]) == .badTarget)
        #expect(refusal(.GET, "http://u:p@other.test/", [host]) == .badHost)
        #expect(refusal(.GET, "/" + String(repeating: "a", count: EdgeLimits.requestTarget), [host]) == .targetTooLong)
        #expect(refusal(.CONNECT, "app.test:443", [host]) == .badMethod)
        #expect(refusal(.TRACE, [host]) == .badMethod)
        #expect(refusal(version: .init(major: 1, minor: 2), [host]) == .badVersion)
    }

    @Test("The connection is kept open as RFC 9112 requires")
    func persistence() throws {
        let host = ("Host", "app.test")
        #expect(try inspect([host]).get().keepsAlive)
        #expect(try !inspect([host, ("Connection", "Keep-Alive, Close")]).get().keepsAlive)
        #expect(try !inspect(version: .http1_0, [host]).get().keepsAlive)
        #expect(try inspect(version: .http1_0, [host, ("Connection", "keep-alive")]).get().keepsAlive)
    }

    @Test("Only a well-formed WebSocket request is an upgrade")
    func upgrade() throws {
        let base = [("Host", "app.test"), ("Connection", "keep-alive, Upgrade"), ("Upgrade", "WebSocket")]
        let key = ("Sec-WebSocket-Key", "x")
        let version = ("Sec-WebSocket-Version", "13")
        let request = try inspect(base + [key, version]).get()
        #expect(request.isWebSocket)
        let section = request.forwardedFields(client: .init(address: "::1"), scheme: "https", requestID: "1")
        #expect(section.all("upgrade") == ["websocket"])
        #expect(refusal(.POST, base + [key, version]) == .badUpgrade)
        #expect(refusal(base + [version]) == .badUpgrade)
        #expect(refusal(base + [key, ("Sec-WebSocket-Version", "8")]) == .badUpgrade)
        #expect(refusal(base + [key, key, version]) == .badUpgrade)
        #expect(refusal(base + [key, version, ("Content-Length", "1")]) == .badUpgrade)
        let ignored = try inspect([("Host", "app.test"), ("Connection", "Upgrade"), ("Upgrade", "h2c")]).get()
        #expect(!ignored.isWebSocket)
        #expect(ignored.stopsDecoder)
    }

    @Test("Control characters in values and too many fields are refused")
    func limits() {
        #expect(refusal([("Host", "app.test"), ("X", "a\u{0}b")]) == .malformed)
        #expect(refusal([("Host", "app.test"), ("X", "a\rb")]) == .malformed)
        let many = (0..<EdgeLimits.headerFields).map { ("X-\($0)", "v") }
        #expect(refusal([("Host", "app.test")] + many) == .headTooLarge)
    }
}
