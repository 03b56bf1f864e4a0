package import ACME
package import Crypto
package import Formats

/// An ACME server in memory: strict with requests, and as bad with answers as a test wants it to be. Requests that the
/// protocol forbids are kept in ``violations``.
package final class TestCA {
    package struct Faults {
        /// Probabilities for each request.
        package var badNonce = 0.0
        package var serverError = 0.0
        package var lostRequest = 0.0
        package var lostAnswer = 0.0

        package init(
            badNonce: Double = 0,
            serverError: Double = 0,
            lostRequest: Double = 0,
            lostAnswer: Double = 0
        ) {
            self.badNonce = badNonce
            self.serverError = serverError
            self.lostRequest = lostRequest
            self.lostAnswer = lostAnswer
        }
    }

    package enum Waits: CaseIterable {
        case none, seconds, date
    }

    /// A test's answer to whether the CA's validators find a challenge's response.
    package typealias Validators = (Expected) -> Bool

    package static let host = "https://ca.test"
    package static let directory = ACMEURL("\(host)/dir-7")!

    package var faults = Faults()
    package var retryAfter = Waits.none
    /// Seconds that `Retry-After` says.
    package var retrySeconds: Int64 = 3
    package var validationTime: Int64 = 0
    package var issuanceTime: Int64 = 0
    /// Its clock against the test's, seconds.
    package var clockOffset: Int64 = 0
    package var terms: String?
    package var externalAccount: ExternalAccount?
    package var profiles: [String: String] = [:]
    package var offersRenewalInfo = false
    package var challenges = ["dns-01", "http-01", "tls-alpn-01", "dns-account-01"]
    /// Whether newOrder returns an open order for the same names, as Let's Encrypt does.
    package var reusesOrders = true
    package var lifetime: Int64 = 90 * 86_400
    package var rejectedNames: Set<String> = []
    package var rateLimitedUntil: UnixTime?
    package var refusedReplaces: String?
    /// Changes an answer, or takes it away.
    package var tamper: ((ACMERequest, inout ACMEResponse) -> Void)?
    package var validators: Validators = { _ in true }

    package var violations: [String] = []
    package var requests = 0
    package var signedRequests: [String] = []
    package var payloads: [(path: String, payload: [String: JSONValue]?)] = []
    package var issuedCount = 0

    package var accounts: [String: Account] = [:]
    package var orders: [String: Order] = [:]
    package var rights: [String: Right] = [:]
    package var nonces: Set<String> = []
    package var counter = 0
    package var generator: SeededGenerator
    package let authority = TestIssuer.shared
    /// The time of the CA's clock at the current request.
    package var now = UnixTime(seconds: 0)

    package struct Account {
        package var url: String
        package var key: P256.Signing.PublicKey
        package var thumbprint: String
        package var contacts: [JSONValue]
        package var status = "valid"
    }

    package struct Order {
        package var url: String
        package var account: String
        package var names: [ACMEIdentifier]
        package var rights: [String]
        package var status = "pending"
        package var request: [UInt8]?
        package var readyAt: UnixTime?
        package var chain: [UInt8]?
        package var error: [String: JSONValue]?
        package var profile: String?
    }

    package struct Right {
        package var name: ACMEIdentifier
        package var isWildcard: Bool
        package var account: String
        package var status = "pending"
        package var token: String
        package var running: String?
        package var readyAt: UnixTime?
        package var error: [String: JSONValue]?
    }

    package init(seed: UInt64 = 1) {
        generator = SeededGenerator(seed: seed)
    }

    /// Forgets everything but what was ever ordered, as a CA for tests does that is started again.
    package func restart() {
        accounts = [:]
        orders = [:]
        rights = [:]
        nonces = []
    }

    /// Returns the response, or `nil` if it or the request was lost.
    package func answer(_ request: ACMERequest, now wall: UnixTime) -> ACMEResponse? {
        now = wall + clockOffset
        requests += 1
        settle()
        guard request.url.text.hasPrefix(Self.host + "/") else {
            violations.append("a request to \(request.url)")
            return nil
        }
        if generator.chance(faults.lostRequest) { return nil }
        var response: ACMEResponse
        if generator.chance(faults.serverError) {
            let status = [500, 502, 503, 504][Int(generator.next() % 4)]
            var fields = self.fields(nonce: false)
            if status == 503 { fields += waitFields() }
            response = ACMEResponse(status: status, fields: fields, body: Array("<html>".utf8))
        } else {
            response = route(request)
        }
        tamper?(request, &response)
        return generator.chance(faults.lostAnswer) ? nil : response
    }

    private func route(_ request: ACMERequest) -> ACMEResponse {
        let path = String(request.url.text.dropFirst(Self.host.count))
        switch (request.method, path) {
        case (.get, "/dir-7"): return ok(directoryFields, nonce: false)
        case (.head, "/nonce-plz"): return ACMEResponse(status: 200, fields: fields(nonce: true), body: [])
        case (.get, _) where path.hasPrefix("/draft-ari/"): return renewalInfo(String(path.dropFirst(11)))
        case (.post, _): return post(request, path)
        default:
            violations.append("\(request.method.rawValue) of \(path)")
            return problem(405, "malformed", "method")
        }
    }

    private var directoryFields: [String: JSONValue] {
        var meta: [String: JSONValue] = ["website": .string("https://example.test"), "more": .array([.null])]
        if let terms { meta["termsOfService"] = .string(terms) }
        if externalAccount != nil { meta["externalAccountRequired"] = .bool(true) }
        if !profiles.isEmpty { meta["profiles"] = .object(profiles.mapValues { .string($0) }) }
        var fields: [String: JSONValue] = [
            "newNonce": .string(Self.host + "/nonce-plz"), "newAccount": .string(Self.host + "/sign-me-up"),
            "newOrder": .string(Self.host + "/order-plz"), "revokeCert": .string(Self.host + "/revoke"),
            "keyChange": .string(Self.host + "/rollover"), "random-42": .string("see the forum"),
            "meta": .object(meta),
        ]
        if offersRenewalInfo { fields["renewalInfo"] = .string(Self.host + "/draft-ari") }
        return fields
    }

    private func renewalInfo(_ id: String) -> ACMEResponse {
        guard id.split(separator: ".").count == 2 else { return problem(404, "malformed", "no such certificate") }
        let window: [String: JSONValue] = [
            "start": .string((now + 1_000).rfc3339), "end": .string((now + 2_000).rfc3339),
        ]
        let body: [String: JSONValue] = [
            "suggestedWindow": .object(window), "explanationURL": .string("https://example.test/why"),
        ]
        let fields = self.fields(nonce: false) + [ACMEResponse.Field("Retry-After", "21600")]
        return ACMEResponse(status: 200, fields: fields, body: body.json)
    }

    // MARK: Answers

    package func next(_ prefix: String) -> String {
        counter += 1
        return "\(prefix)\(counter)"
    }

    package func fields(nonce: Bool) -> [ACMEResponse.Field] {
        var fields = [ACMEResponse.Field("date", now.httpDate), ACMEResponse.Field("Content-Type", "application/json")]
        if nonce {
            let nonce = next("nonce-")
            nonces.insert(nonce)
            fields.append(ACMEResponse.Field("Replay-Nonce", nonce))
        }
        return fields
    }

    package func waitFields() -> [ACMEResponse.Field] {
        switch retryAfter {
        case .none: []
        case .seconds: [ACMEResponse.Field("Retry-After", "\(retrySeconds)")]
        case .date: [ACMEResponse.Field("RETRY-AFTER", (now + retrySeconds).httpDate)]
        }
    }

    package func ok(
        _ body: [String: JSONValue],
        status: Int = 200,
        _ more: [ACMEResponse.Field] = [],
        nonce: Bool = true
    ) -> ACMEResponse {
        ACMEResponse(status: status, fields: fields(nonce: nonce) + more, body: body.json)
    }

    package func problem(
        _ status: Int,
        _ type: String,
        _ detail: String,
        _ more: [ACMEResponse.Field] = [],
        name: ACMEIdentifier? = nil
    ) -> ACMEResponse {
        ACMEResponse(
            status: status,
            fields: fields(nonce: true) + more,
            body: Self.problemFields(type, detail, name: name).json
        )
    }

    package static func problemFields(_ type: String, _ detail: String, name: ACMEIdentifier? = nil) -> [String:
        JSONValue]
    {
        var fields: [String: JSONValue] = [
            "type": .string("urn:ietf:params:acme:error:\(type)"), "detail": .string(detail),
        ]
        if let name {
            fields["identifier"] = .object(["type": .string(name.type), "value": .string(name.value)])
        }
        return fields
    }
}

/// The response that a validator expects.
package struct Expected: Hashable {
    package var kind: ChallengeKind
    package var name: CertificateName
    package var token: String
    package var authorization: String
}

extension Expected {
    package init(_ task: ChallengeTask) {
        self.init(kind: task.kind, name: task.name, token: task.token, authorization: task.keyAuthorization)
    }
}
