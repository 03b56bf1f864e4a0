import ACME
import Crypto
import Formats
import Foundation
import TestSupport
import Testing

@Suite("An order with a hostile CA")
struct HostileTests {
    private static func replace(_ world: World, _ path: String, _ change: @escaping ([UInt8]) -> [UInt8]) {
        world.ca.tamper = { request, response in
            guard request.url.text.contains(path), response.status < 300 else { return }
            response = ACMEResponse(status: response.status, fields: response.fields, body: change(response.body))
        }
    }

    static let paths = ["/dir-7", "/sign-me-up", "/order-plz", "/authz/", "/order/", "/finalize/", "/cert/"]

    @Test("Bodies that are not documents end the order with a typed failure", arguments: paths)
    func noDocument(_ path: String) throws {
        let deep = String(repeating: "[", count: 100_000)
        let closed = String(repeating: "[", count: 500) + String(repeating: "]", count: 500)
        let wide = String(repeating: "{},", count: 30_000)
        let bodies = [
            "{\"a\":\(closed)}", "{\"a\":[\(wide){}]}", String(repeating: "{\"a\":", count: 9_000),
            "", "{", "[]", "null", "\"text\"", "{\"a\":}", "<html>", deep, "{\"status\":\(deep)", "\u{0}", "{}",
        ]
        let wideText = "{\"a\":1}".utf16.flatMap {
            [UInt8(truncatingIfNeeded: $0 >> 8), UInt8(truncatingIfNeeded: $0)]
        }
        let blanks = [UInt8](repeating: 0x20, count: 1 << 20)
        for body in bodies.map({ Array($0.utf8) }) + [wideText, [0xff, 0xfe], blanks] {
            let world = World()
            Self.replace(world, path) { _ in body }
            let failure = try world.failure()
            #expect(failure.code == .badAnswer && failure.retry == .backOff, "\(failure)")
            #expect(world.board.isEmpty)
        }
    }

    @Test("Every field of every document with a wrong type is refused or without effect", arguments: paths.dropLast())
    func wrongTypes(_ path: String) throws {
        let values: [JSONValue] = [
            .null, .bool(true), .integer(-1), .number(1.5), .string(""), .string("x"), .array([]), .array([.null]),
            .array([.object([:])]), .object([:]), .array([.array([.string("x")])]),
        ]
        let first = World()
        var names: Set<String> = []
        Self.replace(first, path) { body in
            names.formUnion([String: JSONValue](json: body)?.keys.map { $0 } ?? [])
            return body
        }
        _ = try first.issue()
        #expect(!names.isEmpty)
        for name in names {
            for value in values {
                let world = World()
                Self.replace(world, path) { body in
                    var fields = [String: JSONValue](json: body) ?? [:]
                    fields[name] = value
                    return fields.json
                }
                let outcome = try world.lead()
                if case .failed(let failure) = outcome {
                    #expect([.badAnswer, .noUsableChallenge, .timedOut].contains(failure.code), "\(name): \(failure)")
                }
                #expect(world.board.isEmpty)
            }
        }
    }

    @Test("Bytes changed at random never do harm, over thousands of seeds")
    func noise() async throws {
        for seed in 0..<UInt64(testSeeds(default: 1_000)) {
            await Task.yield()
            var generator = SeededGenerator(seed: seed)
            let world = World(seed: seed)
            world.mayNameOthers = true
            world.ca.tamper = { _, response in
                guard generator.chance(0.1), !response.body.isEmpty else { return }
                var body = response.body
                for _ in 0...generator.next() % 4 {
                    body[Int(generator.next() % UInt64(body.count))] = UInt8(truncatingIfNeeded: generator.next())
                }
                response = ACMEResponse(status: response.status, fields: response.fields, body: body)
            }
            if case .issued(let certificate) = try world.lead() {
                #expect(certificate.facts.names == [.dns("a.test")])
                try expectFittingKey(certificate)
            }
            #expect(world.board.isEmpty)
        }
    }

    @Test(
        "URLs to elsewhere are not followed",
        arguments: [
            "http://ca.test/x", "file:///etc/passwd", "ftp://ca.test/x", "//ca.test/x", "/x", "", "https://",
            "https://user@ca.test/x", "https://ca.test/x#y", "https://127.0.0.1/x", "https://localhost/x",
            "http://localhost:8080/x", "http://[::1]/x", "https://[::ffff:127.0.0.1]/x", "https://127.1/x",
            "https://0x7f000001/x", "https://2130706433/x", "https://0.0.0.0/x", "https://ca.test:0/x",
            "https://ca.test:65536/x", "https://ca.test/\u{0}x", "https://ca.test/ x", "https://ca.test\\@evil.test/",
            "javascript:alert(1)", "https://ca.test/" + String(repeating: "x", count: 3_000), "https://a..b/",
            "https://foo.localhost/x", "HTTP://CA.TEST/", "https://*.test/", "gopher://ca.test", "https://ca.test:/x",
        ]
    )
    func foreignURLs(_ url: String) throws {
        for (path, name) in [
            ("/dir-7", "newNonce"), ("/dir-7", "newAccount"), ("/dir-7", "newOrder"), ("/order-plz", "finalize"),
            ("/order/", "certificate"),
        ] {
            let world = World()
            Self.replace(world, path) { body in
                var fields = [String: JSONValue](json: body) ?? [:]
                fields[name] = .string(url)
                return fields.json
            }
            let failure = try world.failure()
            #expect(failure.code == .badAnswer, "\(name): \(failure)")
            #expect(failure.detail.contains(name), "\(failure.detail)")
        }
        for path in ["/sign-me-up", "/order-plz"] {
            let world = World()
            world.ca.tamper = { request, response in
                guard request.url.text.hasSuffix(path) else { return }
                let fields = response.fields.filter { $0.name != "Location" } + [ACMEResponse.Field("Location", url)]
                response = ACMEResponse(status: response.status, fields: fields, body: response.body)
            }
            #expect(try world.failure().code == .badAnswer)
        }
    }

    @Test("Redirects are not followed", arguments: [301, 302, 303, 307, 308])
    func redirects(_ status: Int) throws {
        let world = World()
        world.ca.tamper = { request, response in
            guard request.url.text.hasSuffix("/order-plz") else { return }
            let fields = response.fields + [ACMEResponse.Field("Location", "https://evil.test/")]
            response = ACMEResponse(status: status, fields: fields, body: [])
        }
        let failure = try world.failure()
        #expect(failure.code == .badAnswer && failure.detail.contains("redirects"))
    }

    @Test("A certificate for another key, for other names, or with a broken chain is not taken")
    func wrongCertificate() throws {
        enum Kind: CaseIterable { case key, names, order, unrelated, key2 }
        for kind in Kind.allCases {
            let world = World(["a.test", "b.test"])
            world.ca.tamper = { request, response in
                guard request.url.text.contains("/cert/") else { return }
                let order = world.ca.orders.values.first!
                let start = World.start
                let issuer = TestIssuer.shared
                let body: [UInt8]
                switch kind {
                case .key:
                    let key = P256.Signing.PrivateKey().publicKey
                    body = issuer.issue(order.request!, from: start, lifetime: 100, key: key)
                case .names:
                    body = issuer.issue(order.request!, from: start, lifetime: 100, names: ["a.test", "c.test"])
                case .order:
                    let blocks = String(decoding: order.chain!, as: UTF8.self).components(separatedBy: "-----BEGIN")
                    body = Array("-----BEGIN\(blocks[2])-----BEGIN\(blocks[1])".utf8)
                case .unrelated: body = order.chain! + order.chain!
                case .key2: body = order.chain! + Array(P256.Signing.PrivateKey().pemRepresentation.utf8)
                }
                response = ACMEResponse(status: 200, fields: response.fields, body: body)
            }
            let failure = try world.failure()
            #expect([.wrongCertificate, .badAnswer].contains(failure.code) && !failure.keepsOrder, "\(failure)")
            #expect(failure.step == .certificate && world.order == nil)
        }
    }

    @Test("A CA cannot make us answer for names that were not ordered")
    func foreignName() throws {
        let world = World()
        Self.replace(world, "/authz/") { body in
            var fields = [String: JSONValue](json: body) ?? [:]
            fields["identifier"] = .object(["type": .string("dns"), "value": .string("victim.test")])
            return fields.json
        }
        let failure = try world.failure()
        #expect(failure.code == .badAnswer && failure.detail.contains("victim.test"))
        #expect(world.tasks.isEmpty)
        let order = World()
        Self.replace(order, "/order-plz") { body in
            var fields = [String: JSONValue](json: body) ?? [:]
            fields["identifiers"] = .array([.object(["type": .string("dns"), "value": .string("victim.test")])])
            return fields.json
        }
        #expect(try order.failure().code == .badAnswer)
    }

    @Test(
        "Tokens that could leave their place are refused",
        arguments: ["", "../../etc", "a/b", "a b", "a.b", "ä", "a\n", String(repeating: "a", count: 129)]
    )
    func tokens(_ token: String) throws {
        let world = World()
        Self.replace(world, "/authz/") { body in
            let text = String(decoding: body, as: UTF8.self)
            let start = text.components(separatedBy: "\"token\":\"")
            guard start.count > 1 else { return body }
            var result = start[0]
            for part in start.dropFirst() {
                let escaped = token.replacing("\n", with: "\\n")
                result += "\"token\":\"\(escaped)" + part.drop { $0 != "\"" }
            }
            return Array(result.utf8)
        }
        let failure = try world.failure()
        #expect(failure.code == .badAnswer && failure.detail.contains("token"))
        #expect(world.tasks.isEmpty)
    }

    @Test("A CA that reports ready, pending or processing for ever is abandoned after ten minutes")
    func loops() throws {
        for status in ["ready", "pending", "processing"] {
            for retry in ["0", "1", "61", "Sun, 06 Nov 1994 08:49:37 GMT", "-1", "soon", "999999999999999999999"] {
                let world = World()
                world.ca.tamper = { request, response in
                    guard ["/order/", "/finalize/"].contains(where: request.url.text.contains) else { return }
                    var fields = [String: JSONValue](json: response.body) ?? [:]
                    guard fields["finalize"] != nil else { return }
                    fields["status"] = .string(status)
                    response = ACMEResponse(
                        status: 200,
                        fields: response.fields + [ACMEResponse.Field("Retry-After", retry)],
                        body: fields.json
                    )
                }
                let failure = try world.failure()
                #expect([.timedOut, .orderNotReady].contains(failure.code), "\(status), \(retry): \(failure)")
                #expect(world.milliseconds < 3_700_000, "\(status), \(retry)")
                #expect(world.ca.requests < 1_000, "\(status), \(retry)")
                #expect(world.board.isEmpty)
            }
        }
    }

    @Test("Lists without end are refused")
    func hugeLists() throws {
        for (path, name) in [
            ("/order-plz", "authorizations"), ("/order-plz", "identifiers"), ("/authz/", "challenges"),
        ] {
            let world = World()
            Self.replace(world, path) { body in
                var fields = [String: JSONValue](json: body) ?? [:]
                guard case .array(let list)? = fields[name] else { return body }
                fields[name] = .array((0..<300).map { _ in list[0] })
                return fields.json
            }
            let failure = try world.failure()
            #expect(failure.code == .badAnswer && failure.detail.contains(name), "\(failure)")
        }
    }

    @Test("The CA's words are fit for a terminal, and are cut")
    func words() throws {
        let world = World()
        world.ca.tamper = { request, response in
            guard request.url.text.hasSuffix("/order-plz") else { return }
            let text = "\u{1b}]0;evil\u{7}\u{202e}\n" + String(repeating: "ä", count: 5_000)
            response = world.ca.problem(400, "caa", text)
        }
        let failure = try world.failure()
        #expect(failure.code == .caa && failure.detail.hasPrefix("?]0;evil???ä"))
        #expect(failure.detail.unicodeScalars.count == 1_001)
    }

    @Test("Nonces that cannot be sent back are left alone; without any other there is a failure")
    func badNonces() throws {
        for nonce in ["", "a b", "a\r\nX: y", "ä", String(repeating: "n", count: 600)] {
            let world = World()
            world.ca.tamper = { _, response in
                let fields = response.fields.filter { $0.name != "Replay-Nonce" }
                response = ACMEResponse(
                    status: response.status,
                    fields: fields + [ACMEResponse.Field("Replay-Nonce", nonce)],
                    body: response.body
                )
            }
            let failure = try world.failure()
            #expect(failure.code == .badAnswer && failure.step == .nonce)
            #expect(world.ca.signedRequests == [])
        }
    }

    @Test(
        "Problems of types that the CA may not name are not ours",
        arguments: ["timedOut", "wrongCertificate", "", "x"]
    )
    func foreignTypes(_ type: String) throws {
        let world = World()
        world.ca.tamper = { request, response in
            guard request.url.text.hasSuffix("/order-plz") else { return }
            response = world.ca.problem(400, type, "hm")
        }
        #expect(try world.failure().code == .other)
    }
}
