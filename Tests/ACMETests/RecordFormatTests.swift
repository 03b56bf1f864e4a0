import ACME
import Formats
import TestSupport
import Testing

/// The bytes of each record. They never change, because each release has to read what earlier ones wrote.
@Suite("Golden records")
struct RecordFormatTests {
    private static let directory = "https://ca.test/dir"
    private static let start = UnixTime(seconds: 1_800_000_000)
    /// The key with the private scalar 0x0102…20, as OpenSSL writes it.
    private static let key =
        #"-----BEGIN PRIVATE KEY-----\nMIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgAQIDBAUGBwgJCgsM\n"#
        + #"DQ4PEBESExQVFhcYGRobHB0eHyChRANCAARRXD1uueOWuQTT/sp/VP3NDMHpl783\n"#
        + #"XcpRWtCmw7QDX0U2vjpQ8xj7+aVHWQKiIVAr7w1X4IxTsswKVvF9n5NU\n-----END PRIVATE KEY-----\n"#
    private static let task =
        #""key_authorization":"token-1.6UoWwDCkLjV0J-pQG8c0THxbVhBcpR0AZDift1Yl5DM","name":"a.test","token":"token-1","#
        + #""type":"http-01""#
    private static let failure =
        #"{"at":"2027-01-15T08:00:00Z","authority":"https://ca.test/dir","code":"dns","identifier":"a.test","#
        + #""message":"no \"A\" record","remedy":"add one"}"#

    private static let accountBytes = bytes(
        #"{"contacts":["mailto:a@b.test"],"directory":"https://ca.test/dir","format":1,"key":""# + key
            + #"","url":"https://ca.test/account/7"}"#
    )
    private static let orderBytes = bytes(
        #"{"created":"2027-01-15T08:00:00Z","directory":"https://ca.test/dir","format":1,"key":""# + key
            + #"","names":["a.test","*.b.test","192.0.2.1"],"order":"https://ca.test/order/3","profile":"short","#
            + #""tasks":[{"# + task + "}]}"
    )
    private static let stateBytes = bytes(
        #"{"failures":3,"format":1,"holds":{"https://ca.test/dir":"2027-01-15T08:00:01Z"},"last_error":"# + failure
            + #","next_try":"2027-01-15T08:00:02Z","renewal":{"at":"2027-01-15T08:00:03Z","certificate":"ab.cd","#
            + #""earliest":"2027-01-15T08:00:07Z","explanation":"https://ca.test/why","next_poll":"2027-01-15T08:00:06Z","#
            + #""window_end":"2027-01-15T08:00:05Z","window_start":"2027-01-15T08:00:04Z"},"settings":"f00d"}"#
    )
    private static let holdBytes = bytes(
        #"{"error":"# + failure
            + #","format":1,"not_before":"2027-01-15T08:10:00Z","pause":600,"settings":"f00d","since":"2027-01-15T07:59:59Z"}"#
    )
    private static let budgetBytes = bytes(
        #"{"format":1,"grants":{"a.test":"2027-01-15T08:00:00Z team a","b.test":"2027-01-15T08:00:01Z t"}}"#
    )
    private static let challengeBytes = bytes(#"{"format":1,"# + task + "}")

    private func faults<Record: StoredRecord>(_ type: Record.Type, _ golden: [UInt8]) -> [String] {
        formatFaults(golden, maps: ["holds", "grants"]) { try Record(json: $0, place: "x").json }
    }

    @Test("Golden bytes of an account")
    func account() throws {
        let account = try AccountRecord(json: Self.accountBytes, place: "x")
        #expect(account.directory.text == Self.directory && account.url?.text == "https://ca.test/account/7")
        #expect(account.contacts == ["mailto:a@b.test"] && account.key.raw == (1...32).map { UInt8($0) })
        var created = AccountRecord(directory: account.directory, key: account.key)
        created.url = account.url
        created.contacts = account.contacts
        #expect(created == account && faults(AccountRecord.self, Self.accountBytes) == [])
    }

    @Test("Golden bytes of an order")
    func order() throws {
        let order = try OrderRecord(json: Self.orderBytes, place: "x")
        #expect(order.directory.text == Self.directory && order.order.text == "https://ca.test/order/3")
        #expect(order.names == [.dns("a.test"), .dns("*.b.test"), .address("192.0.2.1")] && order.profile == "short")
        #expect(order.created == Self.start && Self.key.contains(order.key.pem.split(separator: "\n")[1]))
        let account = try AccountRecord(json: Self.accountBytes, place: "x")
        #expect(order.tasks == [ChallengeTask(.http01, .dns("a.test"), token: "token-1", key: account.key)])
        #expect(faults(OrderRecord.self, Self.orderBytes) == [])
    }

    @Test("Golden bytes of the state of a name")
    func state() throws {
        let state = try RenewalState(json: Self.stateBytes, place: "x")
        var expected = RenewalState()
        expected.failures = 3
        expected.nextTry = Self.start + 2
        expected.holds = [Self.directory: Self.start + 1]
        expected.settings = "f00d"
        var plan = RenewalPlan(
            certificate: "ab.cd",
            at: Self.start + 3,
            window: .init(start: Self.start + 4, end: Self.start + 5),
            explanation: "https://ca.test/why",
            nextPoll: Self.start + 6
        )
        plan.earliest = Self.start + 7
        expected.renewal = plan
        expected.lastError = state.lastError
        #expect(state == expected)
        let error = try #require(state.lastError)
        #expect(error.code == "dns" && error.message == #"no "A" record"# && error.remedy == "add one")
        #expect(error.identifier == "a.test" && error.authority == Self.directory && error.at == Self.start)
        #expect(faults(RenewalState.self, Self.stateBytes) == [])
    }

    @Test("Golden bytes of a CA that accepts no orders")
    func hold() throws {
        let hold = try AuthorityHold(json: Self.holdBytes, place: "x")
        #expect(hold.since == Self.start + -1 && hold.notBefore == Self.start + 600 && hold.pause == 600)
        #expect(hold.settings == "f00d")
        #expect(hold.error == (try RenewalState(json: Self.stateBytes, place: "x").lastError))
        #expect(faults(AuthorityHold.self, Self.holdBytes) == [])
    }

    @Test("Golden bytes of the budget of certificates on demand")
    func budget() throws {
        var budget = IssuanceBudget()
        let limits = IssuanceBudget.Limits(perMinute: 10, perWeek: 10)
        #expect(budget.request(.dns("a.test"), for: "team a", limits: limits, now: Self.start) == .granted)
        #expect(budget.request(.dns("b.test"), for: "t", limits: limits, now: Self.start + 1) == .granted)
        #expect(budget.json == Self.budgetBytes)
        #expect(try IssuanceBudget(json: Self.budgetBytes, place: "x") == budget)
        #expect(faults(IssuanceBudget.self, Self.budgetBytes) == [])
    }

    @Test("Golden bytes of a challenge")
    func challenge() throws {
        let key = try #require(AccountKey(raw: (1...32).map { UInt8($0) }))
        let task = ChallengeTask(.http01, .dns("a.test"), token: "token-1", key: key)
        #expect(task.document == Self.challengeBytes)
        #expect(try ChallengeTask(document: Self.challengeBytes, place: "x") == task)
        // A challenge is written once.
        let faults = formatFaults(Self.challengeBytes, keepsUnknownFields: false) {
            try ChallengeTask(document: $0, place: "x").document
        }
        #expect(faults == [])
    }

    @Test(
        "A record without the number of its format is refused; that of a later release is not taken for a damaged one"
    )
    func number() throws {
        for (text, isLater) in [("{}", false), (#"{"format":0}"#, false), (#"{"format":2}"#, true)] {
            let error = #expect(throws: ACMEMessageError.self) { try RenewalState(json: bytes(text), place: "names/x") }
            #expect(error?.place == "names/x.format" && error?.isLaterFormat == isLater)
        }
    }
}

private func bytes(_ text: String) -> [UInt8] { Array(text.utf8) }
