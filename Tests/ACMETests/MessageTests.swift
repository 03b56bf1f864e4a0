import ACME
import Formats
import Testing

@Suite("A CA's documents")
struct MessageTests {
    static let origin = ACMEURL("https://ca.test/dir")!

    private func bytes(_ text: String) -> [UInt8] { Array(text.utf8) }

    @Test("The directory of RFC 8555 §7.1.1, with profiles and renewal information")
    func directory() throws {
        let text = """
            {"newNonce":"https://ca.test/acme/new-nonce","newAccount":"https://ca.test/acme/new-account",
            "newOrder":"https://ca.test/acme/new-order","newAuthz":"https://ca.test/acme/new-authz",
            "revokeCert":"https://ca.test/acme/revoke-cert","keyChange":"https://ca.test/acme/key-change",
            "renewalInfo":"https://ca.test/acme/renewal-info",
            "meta":{"termsOfService":"https://ca.test/acme/terms/2017-5-30","website":"https://www.ca.test/",
            "caaIdentities":["ca.test"],"externalAccountRequired":true,
            "profiles":{"classic":"https://ca.test/docs/classic","short":"six days"}}}
            """
        let directory = try ACMEDirectory(bytes(text), from: Self.origin)
        #expect(directory.newNonce.text == "https://ca.test/acme/new-nonce")
        #expect(directory.newAccount.text == "https://ca.test/acme/new-account")
        #expect(directory.newOrder.text == "https://ca.test/acme/new-order")
        #expect(directory.renewalInfo?.text == "https://ca.test/acme/renewal-info")
        #expect(directory.requiresExternalAccount)
        #expect(directory.profiles == ["classic": "https://ca.test/docs/classic", "short": "six days"])
    }

    @Test("The order of RFC 8555 §7.1.3")
    func order() throws {
        let text = """
            {"status":"valid","expires":"2016-01-20T14:09:07.99Z",
            "identifiers":[{"type":"dns","value":"www.example.org"},{"type":"dns","value":"example.org"}],
            "notBefore":"2016-01-01T00:00:00Z","notAfter":"2016-01-08T00:00:00Z",
            "authorizations":["https://ca.test/acme/authz/PAniVnsZcis","https://ca.test/acme/authz/r4HqLzrSrpI",
            "https://ca.test/acme/authz/r4HqLzrSrpI"],
            "finalize":"https://ca.test/acme/order/TOlocE8rfgo/finalize","certificate":"https://ca.test/acme/cert/mAt3"}
            """
        let order = try ACMEOrder(bytes(text), from: Self.origin)
        #expect(order.status == .valid && order.identifiers.map(\.value) == ["www.example.org", "example.org"])
        #expect(order.authorizations.count == 2 && order.error == nil)
        #expect(order.certificate?.text == "https://ca.test/acme/cert/mAt3")
    }

    @Test("The largest record of an order can be read again: 100 names, two tasks for each, the longest tokens")
    func largestOrderRecord() throws {
        let label = String(repeating: "n", count: 60)
        let names = (100..<200).map { "\($0).\(label).\(label).\(label).\(label).test" }
        let token = String(repeating: "t", count: 128)
        let tasks = (names + names).map { name -> JSONValue in
            .object([
                "type": .string("dns-01"), "name": .string(name), "token": .string(token),
                "key_authorization": .string("\(token).\(String(repeating: "k", count: 43))"),
            ])
        }
        let fields: [String: JSONValue] = [
            "format": .integer(1), "directory": .string(Self.origin.text), "order": .string("https://ca.test/order/1"),
            "names": .array(names.map { .string($0) }), "key": .string(LeafKey().pem),
            "created": .string("2027-01-15T08:00:00Z"), "tasks": .array(tasks),
        ]
        let record = try OrderRecord(json: fields.json, place: "order")
        #expect(record.tasks.count == 200 && record.json.count > ACMELimits.document)
        #expect(try OrderRecord(json: record.json, place: "order") == record)
    }

    @Test("The authorization of RFC 8555 §7.1.4, with challenges that are not known")
    func authorization() throws {
        let text = """
            {"status":"pending","expires":"2015-03-01T14:09:07.99Z","wildcard":true,
            "identifier":{"type":"dns","value":"www.example.org"},"challenges":[
            {"type":"tkauth-01","token":7},
            {"type":"http-01","url":"https://ca.test/acme/chall/prV_B7yEyA4","status":"invalid",
            "token":"DGyRejmCefe7v4",
            "error":{"type":"urn:ietf:params:acme:error:dns","detail":"no record"},
            "validated":"2014-12-01T12:05:58.16Z"},
            {"type":"dns-01","url":"https://ca.test/acme/chall/2","status":"processing","token":"A-_z"}]}
            """
        let authorization = try ACMEAuthorization(bytes(text), from: Self.origin)
        #expect(authorization.isWildcard && authorization.offered == ["tkauth-01", "http-01", "dns-01"])
        #expect(authorization.challenges.map(\.kind) == [.http01, .dns01])
        #expect(authorization.challenges[0].error?.errorName == "dns")
        #expect(authorization.challenges[1].status == .processing && authorization.challenges[1].token == "A-_z")
    }

    @Test("The problem of RFC 8555 §6.7.1")
    func problem() throws {
        let text = """
            {"type":"urn:ietf:params:acme:error:malformed","detail":"Some of the identifiers requested were rejected",
            "subproblems":[{"type":"urn:ietf:params:acme:error:malformed","detail":"Invalid underscore in DNS name",
            "identifier":{"type":"dns","value":"_example.org"}},
            {"type":"urn:ietf:params:acme:error:rejectedIdentifier","detail":"This CA will not issue",
            "identifier":{"type":"dns","value":"example.net"}}]}
            """
        let problem = try ACMEProblem(bytes(text))
        #expect(problem.errorName == "malformed" && problem.subproblems.count == 2)
        #expect(problem.subproblems[1].identifier?.value == "example.net")
        let bare = try ACMEProblem(bytes(#"{"title":"Not here"}"#))
        #expect(bare.type == "about:blank" && bare.errorName == nil && bare.detail == "Not here")
        #expect(throws: ACMEMessageError.self) { try ACMEProblem(bytes(#"{"subproblems":[[]]}"#)) }
        #expect(throws: ACMEMessageError.self) { try ACMEProblem(bytes(#"{"detail":7}"#)) }
    }

    @Test("The renewal information of RFC 9773 §4.2; a window that ends before it begins is none")
    func renewalInfo() throws {
        let text = """
            {"suggestedWindow":{"start":"2025-01-02T04:00:00Z","end":"2025-01-03T04:00:00Z"},
            "explanationURL":"https://acme.example.com/docs/ari"}
            """
        let info = try ACMERenewalInfo(bytes(text))
        #expect(info.end - info.start == 86_400 && info.explanation == "https://acme.example.com/docs/ari")
        for bad in [
            #"{"suggestedWindow":{"start":"2025-01-03T04:00:00Z","end":"2025-01-02T04:00:00Z"}}"#,
            #"{"suggestedWindow":{"start":"2025-01-03T04:00:00Z","end":"2025-01-03T04:00:00Z"}}"#,
            #"{"suggestedWindow":{"start":"2025-01-03T04:00:00Z"}}"#, #"{"suggestedWindow":[]}"#, "{}",
            #"{"suggestedWindow":{"start":1735790400,"end":"2025-01-03T04:00:00Z"}}"#,
        ] {
            #expect(throws: ACMEMessageError.self) { try ACMERenewalInfo(bytes(bad)) }
        }
    }

    @Test("An error names the place")
    func places() {
        func place(_ text: String) -> String? {
            do throws(ACMEMessageError) {
                _ = try ACMEOrder(bytes(text), from: Self.origin)
                return nil
            } catch {
                return error.place
            }
        }
        #expect(place("x") == "order")
        #expect(place("{}") == "order.status")
        #expect(place(#"{"status":"done"}"#) == "order.status")
        #expect(place(#"{"status":"ready","identifiers":[{"type":"dns"}]}"#) == "order.identifiers[0].value")
        #expect(place(#"{"status":"ready","identifiers":[7]}"#) == "order.identifiers[0]")
        #expect(place(#"{"status":"ready","authorizations":[7]}"#) == "order.authorizations")
        #expect(place(#"{"status":"ready","authorizations":["x"]}"#) == "order.authorizations[0]")
        #expect(place(#"{"status":"ready"}"#) == "order.finalize")
        let order = #""identifiers":[{"type":"dns","value":"a.test"}],"finalize":"https://ca.test/f""#
        #expect(place("{\"status\":\"valid\",\(order)}") == "order.certificate")
        #expect(place("{\"status\":\"pending\",\(order)}") == "order.authorizations")
        #expect(place("{\"status\":\"ready\",\(order)}") == nil)
        #expect(place("{\"status\":\"ready\",\(order),\"error\":[]}") == "order.error")
    }

    @Test(
        "URLs of CAs",
        arguments: [
            "https://acme-v02.api.letsencrypt.org/directory", "https://ca.test", "https://ca.test:14000/dir?x=%20y",
            "HTTPS://CA.test./dir", "http://localhost/dir", "http://127.0.0.1:14000/dir", "http://[::1]:14000/dir",
            "https://[2001:db8::1]/", "https://ca.test/~a;b,c@d:e!$&'()*+=", "https://xn--ls8h.test/",
        ]
    )
    func goodURLs(_ text: String) {
        #expect(ACMEURL(text)?.text == text)
    }

    @Test("A URL knows its host, and only this machine may be plain")
    func urls() throws {
        #expect(ACMEURL("HTTPS://CA.test./dir")?.host == "ca.test")
        #expect(ACMEURL("https://[2001:DB8::1]:1/")?.host == "2001:db8::1")
        #expect(ACMEURL("http://ca.test/") == nil && ACMEURL("http://10.0.0.1/") == nil)
        #expect(ACMEURL("http://127.0.0.1.evil.test/") == nil && ACMEURL("http://localhost.evil.test/") == nil)
        let (near, far) = (try #require(ACMEURL("https://127.0.0.1/")), try #require(ACMEURL("https://ca.test/")))
        #expect(near.isLoopback && !far.isLoopback)
        #expect(near.mayReference(far) && near.mayReference(near) && far.mayReference(far) && !far.mayReference(near))
    }

    @Test("Retry-After in both forms, against the CA's own clock")
    func retryAfter() {
        func seconds(_ text: String, date: String? = nil) -> Int64? {
            let fields = [ACMEResponse.Field("RETRY-after", text)] + (date.map { [.init("Date", $0)] } ?? [])
            let now = UnixTime(httpDate: "Sun, 06 Nov 1994 08:00:00 GMT")!
            return ACMEResponse(status: 503, fields: fields, body: []).retryAfter(now: now)
        }
        #expect(seconds("120") == 120 && seconds(" 0 ") == 0 && seconds("999999999999") == 999_999_999_999)
        #expect(seconds("Sun, 06 Nov 1994 08:01:00 GMT") == 60)
        #expect(seconds("Sun, 06 Nov 1994 08:01:00 GMT", date: "Sun, 06 Nov 1994 08:00:55 GMT") == 5)
        #expect(seconds("Sun, 06 Nov 1994 07:01:00 GMT") == 0)
        for text in ["", "-1", "+1", "1.5", "0x1", "1e3", "soon", "9999999999999", "Sunday"] {
            #expect(seconds(text) == nil)
        }
    }

    @Test("Links by relation")
    func links() {
        let fields = [
            ACMEResponse.Field("link", "<https://ca.test/1>;rel=\"alternate\", <https://ca.test/2> ; rel=up"),
            ACMEResponse.Field("Link", "<https://ca.test/3>;title=x;rel=Alternate"),
            ACMEResponse.Field("Link", "<https://ca.test/4>;rel=alternates,<,>;<"), ACMEResponse.Field("Link", "<"),
        ]
        let response = ACMEResponse(status: 200, fields: fields, body: [])
        #expect(response.links("alternate") == ["https://ca.test/1", "https://ca.test/3"])
        #expect(response.links("up") == ["https://ca.test/2"])
    }

    @Test("Records survive the store, with fields of later releases, and show no key")
    func records() throws {
        let account = AccountRecord(directory: Self.origin)
        var fields = try #require([String: JSONValue](json: account.json))
        fields["later"] = .array([.integer(1)])
        var read = try AccountRecord(json: fields.json, place: "accounts/x")
        read.url = ACMEURL("https://ca.test/acct/1")
        read.contacts = ["a@b.test"]
        let again = try AccountRecord(json: read.json, place: "accounts/x")
        #expect(again == read && again.key == account.key)
        #expect([String: JSONValue](json: again.json)?["later"] == .array([.integer(1)]))
        #expect(!"\(again)".contains("PRIVATE"))
        let error = #expect(throws: ACMEMessageError.self) {
            try AccountRecord(
                json: bytes(#"{"format":1,"directory":"https://ca.test/","key":"x"}"#),
                place: "accounts/x"
            )
        }
        #expect(error?.place == "accounts/x.key")
    }
}
