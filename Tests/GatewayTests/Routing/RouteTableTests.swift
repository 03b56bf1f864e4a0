import Cluster
import Formats
import Gateway
import HopProtocol
import NIOCore
import Settings
import Testing

extension RouteDecision {
    /// A short form for tests: `agent/service target`, or the reason for having no route.
    func text(_ target: String) -> String {
        switch self {
        case .match(let match): "\(match.target.agent)/\(match.target.service) \(match.forwarded(target))"
        case .unknownHost: "unknown host"
        case .unknownPath: "unknown path"
        case .badPath: "bad path"
        }
    }
}

@Suite("Route table")
struct RouteTableTests {
    let table = RouteTable([
        Route(host: "app.test", agent: "web", service: "front"),
        Route(host: "app.test", pathPrefix: "/api", agent: "web", service: "api", timeout: .seconds(5)),
        Route(host: "app.test", pathPrefix: "/api/v2", agent: "web", service: "api2", stripPrefix: true),
        Route(host: "plain.test", agent: "plain", service: "all"),
        Route(host: "*.app.test", agent: "wild", service: "near"),
        Route(host: "*.test", agent: "wild", service: "far"),
        Route(host: "paths.test", pathPrefix: "/only", agent: "paths", service: "only", stripPrefix: true),
        Route(host: "::1", agent: "local", service: "six"),
    ])

    private func route(_ host: String, _ target: String) -> String {
        table.match(host: host, target: target).text(target)
    }

    @Test("An exact host wins, then the wildcard with the longest suffix, at any depth")
    func hosts() {
        #expect(route("app.test", "/") == "web/front /")
        #expect(route("a.app.test", "/") == "wild/near /")
        #expect(route("a.b.app.test", "/") == "wild/near /")
        #expect(route("other.test", "/") == "wild/far /")
        #expect(route("test", "/") == "unknown host")
        #expect(route("app.test.evil", "/") == "unknown host")
        #expect(route("[::1]", "/") == "local/six /")
        #expect(route("[0:0:0:0:0:0:0:1]", "/") == "local/six /")
        #expect(route("[::2]", "/") == "unknown host")
    }

    @Test("The longest prefix wins, on segment boundaries only")
    func prefixes() {
        #expect(route("app.test", "/api") == "web/api /api")
        #expect(route("app.test", "/api/") == "web/api /api/")
        #expect(route("app.test", "/api/v1?x=/api/v2") == "web/api /api/v1?x=/api/v2")
        #expect(route("app.test", "/apix") == "web/front /apix")
        #expect(route("app.test", "/API") == "web/front /API")
        #expect(route("app.test", "/api/v22") == "web/api /api/v22")
        #expect(route("app.test", "/api?x") == "web/api /api?x")
        #expect(route("paths.test", "/other") == "unknown path")
    }

    @Test("A stripped prefix leaves an absolute path and the original bytes")
    func strip() {
        #expect(route("app.test", "/api/v2/a%20b/c?d=%2F//") == "web/api2 /a%20b/c?d=%2F//")
        #expect(route("app.test", "/api/v2") == "web/api2 /")
        #expect(route("app.test", "/api/v2?q") == "web/api2 /?q")
        #expect(route("app.test", "/api/v2/") == "web/api2 /")
        #expect(route("app.test", "/%61pi/v%32/x") == "web/api2 /x")
    }

    @Test("A percent-encoded prefix is the same prefix")
    func escapes() {
        #expect(route("app.test", "/%61pi/x") == "web/api /%61pi/x")
        #expect(route("app.test", "/ap%69") == "web/api /ap%69")
    }

    @Test(
        "Ambiguous paths are refused on hosts with path routes",
        arguments: [
            "/%2e%2e/api", "/api/%2E./x", "/api%2fx", "/api%2Fv2", "//api", "/api//x", "/api/..", "/api/../front",
            "/./api",
            "/api/.", "/api\\x", "/api%5cx", "/api%5Cv2", "/..;/api", "/api/..;x=1/v2", "/.;a/api", "/api/%00",
            "/api%0a",
            "/api%7f", "/api%", "/api%2", "/api%zz", "/api/%4", "api", "", "?x", "/api#x", "/api x", "/api\u{0}",
        ]
    )
    func hostile(_ target: String) {
        #expect(route("app.test", target) == "bad path")
    }

    @Test(
        "Paths that only resemble ambiguous ones are accepted",
        arguments: [
            "/...", "/a..b/", "/.well-known/x", "/a;b=..", "/a/..b", "/%252e%252e/x", "/?/../%2e", "/a/?//", "/é",
        ]
    )
    func harmless(_ target: String) {
        #expect(route("app.test", target) == "web/front \(target)")
    }

    @Test(
        "A host without path routes forwards every path unchanged",
        arguments: ["//x", "/a%2Fb", "/a/../b", "/a\\b"]
    )
    func oneWay(_ target: String) {
        #expect(route("plain.test", target) == "plain/all \(target)")
    }

    @Test("OPTIONS * goes to the root route of its host")
    func asterisk() {
        #expect(route("app.test", "*") == "web/front *")
        #expect(route("paths.test", "*") == "unknown path")
    }

    @Test("A match contains the timeout and the label of the route")
    func details() throws {
        guard case .match(let match) = table.match(host: "app.test", target: "/api/x") else {
            Issue.record("no route")
            return
        }
        #expect(match.target.timeout == .seconds(5))
        #expect(match.target.label == "app.test/api")
    }

    @Test("Hostile hosts are unknown", arguments: ["", ".", ".test", "..", ".app.test", "[", "[]", "]", "*", "*.*"])
    func hostileHosts(_ host: String) {
        #expect(route(host, "/") == "unknown host")
    }

    @Test("A host of ten thousand labels is looked up in linear time")
    func longHost() {
        #expect(route(String(repeating: "a.", count: 10_000) + "none", "/") == "unknown host")
    }

    @Test("Host patterns are unique and in the order of the configuration")
    func patterns() {
        let expected = ["app.test", "plain.test", "*.app.test", "*.test", "paths.test", "::1"]
        #expect(table.hostPatterns.map(\.description) == expected)
    }
}

@Suite("Hosts that agents offer")
struct AgentOffersTests {
    private func pattern(_ text: String) throws -> HostPattern { try HostPattern(text) }

    @Test("Configured routes come first; agents receive the hosts and paths that no route matches")
    func behindRoutes() throws {
        let router = Router(
            routes: RouteTable([
                Route(host: "app.test", pathPrefix: "/api", agent: "static", service: "api"),
                Route(host: "*.fixed.test", agent: "static", service: "fixed"),
            ])
        )
        func route(_ host: String, _ target: String) -> String { router.route(host: host, target: target).text(target) }
        #expect(route("app.test", "/x") == "unknown path")
        #expect(!router.knows(host: "own.test"))
        var offers = AgentOffers()
        func offer(_ hosts: [String], token: String, _ service: String) throws {
            let info = AttachmentInfo(id: 1, tokenID: token, agent: token, instance: "i", run: .random(), number: 1)
            let claims = try hosts.map { HostClaim(host: try pattern($0), specificity: .max) }
            _ = offers.index.insert(SessionRow(info, services: [service], claims: claims, upstream: router))
        }
        try offer(["app.test", "a.fixed.test", "own.test"], token: "dynamic", "web")
        try offer(["*.own.test"], token: "dynamic", "wild")
        try offer(["own.test"], token: "late", "web")
        router.replaceOffers(offers)
        #expect(route("app.test", "/x") == "dynamic/web /x")
        #expect(route("app.test", "/api/x") == "static/api /api/x")
        #expect(route("app.test", "/api/../x") == "bad path")
        #expect(route("a.fixed.test", "/") == "static/fixed /")
        #expect(route("own.test", "/a//b?c") == "dynamic/web /a//b?c")
        #expect(route("x.own.test", "/") == "dynamic/wild /")
        #expect(
            router.knows(host: "own.test") && router.knows(host: "z.fixed.test") && !router.knows(host: "none.test")
        )
        // Only what an agent offers by name may have a certificate on demand.
        #expect(router.agent(offering: "own.test") == "dynamic" && router.agent(offering: "x.own.test") == nil)
        #expect(router.agent(offering: "x.fixed.test") == nil)
        #expect(
            ["app.test", "a.fixed.test", "*.fixed.test", "*.x.fixed.test", "own.test"].map { host in
                router.routes.agent(of: try! pattern(host))
            } == [nil, "static", "static", "static", nil]
        )
        router.replaceOffers(AgentOffers())
        #expect(route("own.test", "/") == "unknown host")
    }

    @Test("A host belongs to one token among the attachments of all replicas, whichever of them is asked")
    func ownerElsewhere() throws {
        func index(_ rows: [(token: String, host: String, specificity: Int)]) throws -> SessionIndex {
            var index = SessionIndex()
            for (token, host, specificity) in rows {
                let info = AttachmentInfo(id: 1, tokenID: token, agent: token, instance: "i", run: .random(), number: 1)
                let claim = HostClaim(host: try pattern(host), specificity: specificity)
                _ = index.insert(SessionRow(info, services: ["web"], claims: [claim], upstream: AlwaysEmpty()))
            }
            return index
        }
        let one: [(String, String, Int)] = [("a", "*.x.test", 6), ("b", "y.test", 6), ("c", "z.test", 9)]
        let two: [(String, String, Int)] = [("b", "q.x.test", 8), ("a", "y.test", 6), ("a", "z.test", 6)]
        for (local, remote) in [(one, two), (two, one)] {
            let others = try index(remote)
            let router = Router(routes: RouteTable([]), cluster: { others })
            var offers = AgentOffers()
            offers.index = try index(local)
            router.replaceOffers(offers)
            let owners = ["q.x.test", "r.x.test", "y.test", "z.test"].map { host -> String? in
                guard case .match(let match) = router.route(host: host, target: "/") else { return nil }
                return match.target.tokenID
            }
            #expect(owners == ["b", "a", "a", "c"])
            #expect(router.owner(of: .exact("y.test"))?.tokenID == "a")
            #expect(router.agent(offering: "z.test") == "c" && router.agent(offering: "r.x.test") == nil)
        }
    }

    private final class AlwaysEmpty: Sendable {}

    @Test("A pattern covers hosts below its name, and none that merely end with the same text")
    func covers() throws {
        #expect(try pattern("*.a.test").covers(pattern("x.a.test")))
        #expect(try pattern("*.a.test").covers(pattern("x.y.a.test")))
        #expect(try pattern("*.a.test").covers(pattern("*.a.test")))
        #expect(try pattern("*.a.test").covers(pattern("*.x.a.test")))
        #expect(try !pattern("*.a.test").covers(pattern("a.test")))
        #expect(try !pattern("*.a.test").covers(pattern("xa.test")))
        #expect(try !pattern("*.a.test").covers(pattern("*.test")))
        #expect(try !pattern("a.test").covers(pattern("*.a.test")))
        #expect(try pattern("A.Test").covers(pattern("a.test")))
    }
}
