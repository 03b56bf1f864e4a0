import ACME
import Formats

let origin = ACMEURL("https://ca.test/dir")!

/// Checks the messages of a CA: an accepted one has the properties that the rest of the program relies on.
func checkDocuments(_ bytes: [UInt8]) {
    if let directory = try? ACMEDirectory(bytes, from: origin) {
        check(directory.newNonce)
        check(directory.newAccount)
        check(directory.newOrder)
        if let url = directory.renewalInfo { check(url) }
        precondition(directory.profiles.count <= ACMELimits.profiles, "more profiles than the limit")
    }
    if let order = try? ACMEOrder(bytes, from: origin) {
        check(order.finalize)
        order.authorizations.forEach(check)
        precondition(!order.identifiers.isEmpty && order.identifiers.count <= ACMELimits.names, "names")
        precondition(order.status != .valid || order.certificate != nil, "a valid order without a certificate")
        precondition(order.status != .pending || !order.authorizations.isEmpty, "nothing to be done")
    }
    if let authorization = try? ACMEAuthorization(bytes, from: origin) {
        for challenge in authorization.challenges {
            check(challenge.url)
            precondition(ACMEChallenge.isToken(challenge.token), "a token that is none")
            precondition(!challenge.token.contains { $0 == "/" || $0 == "." || $0 == "\n" }, "a token as a path")
        }
    }
    if let problem = try? ACMEProblem(bytes) {
        checkShown(problem.detail)
        precondition(problem.subproblems.allSatisfy { $0.subproblems.isEmpty }, "problems in problems in problems")
    }
    if let info = try? ACMERenewalInfo(bytes) { precondition(info.start < info.end, "a window without time") }
    _ = try? ACMEAccount(bytes)
}

private func check(_ url: ACMEURL) {
    precondition(url.text.lowercased().hasPrefix("https://") && url.isSecure, "a foreign scheme")
    precondition(!url.isLoopback, "a way to this machine")
    precondition(url.text.utf8.allSatisfy { (0x21...0x7e).contains($0) }, "a URL that breaks a line")
}

private func checkShown(_ text: String) {
    precondition(text.unicodeScalars.count <= ACMELimits.displayText + 1, "a text without end")
    precondition(text.unicodeScalars.allSatisfy { $0.value >= 0x20 && $0.value != 0x7f }, "a text for a terminal")
}

/// Checks the documents of the store: they are read as they were written.
func checkRecords(_ bytes: [UInt8]) {
    // Without a number of the format nothing else is read.
    let numbered = [String: JSONValue](json: bytes)?.merging(["format": .integer(1)]) { old, _ in old }.json
    let bytes = numbered ?? bytes
    if let state = checkRecord(RenewalState.self, bytes) {
        let now = UnixTime(seconds: 1_800_000_000)
        switch RetryPolicy.next(state, authorities: ["https://ca.test/dir", "b"], settings: "s", now: now) {
        case .attempt: break
        case .wait(let until): precondition(until > now, "a wait until a time in the past")
        case .blocked: preconditionFailure("no CA is closed")
        }
    }
    checkRecord(AuthorityHold.self, bytes)
    checkRecord(IssuanceBudget.self, bytes)
    checkRecord(AccountRecord.self, bytes)
    checkRecord(OrderRecord.self, bytes)
    // The key of the store is made of the token that it names.
    let token = (([String: JSONValue](json: bytes))?["token"]?.string) ?? ""
    if let task = try? ChallengeTask(document: bytes, place: "task") {
        precondition(ACMEChallenge.isToken(task.token) && task.token == token, "a token that is none")
        let answer = task.keyAuthorization
        precondition(answer.hasPrefix("\(token).") && answer.utf8.count <= 172, "an answer of another kind")
        let again = try? ChallengeTask(document: task.document, place: "task")
        precondition(again == task, "another challenge")
    }
}

@discardableResult
private func checkRecord<Record: StoredRecord>(_ type: Record.Type, _ bytes: [UInt8]) -> Record? {
    guard let record = try? Record(json: bytes, place: "record") else { return nil }
    precondition((try? Record(json: record.json, place: "record")) == record, "another \(type)")
    return record
}

/// Single texts: URLs, dates, headers.
func checkTexts(_ bytes: [UInt8]) {
    let text = String(decoding: bytes, as: UTF8.self)
    if let url = ACMEURL(text) {
        precondition(url.text == text && (url.isSecure || url.isLoopback), "a plain URL to elsewhere")
        precondition(!url.host.isEmpty && ACMEURL(url.text) == url, "two readings of one URL")
    }
    if let time = UnixTime(rfc3339: text) { precondition(UnixTime(rfc3339: time.rfc3339) == time, "another time") }
    if let time = UnixTime(httpDate: text) { precondition(UnixTime(httpDate: time.httpDate) == time, "another time") }
    if let decoded = Base64URL.decode(text) {
        precondition(Base64URL.encode(decoded) == text, "two texts for one value")
    }
    let names = ["Retry-After", "Replay-Nonce", "Date", "Link", "Location"]
    let response = ACMEResponse(status: 503, fields: names.map { .init($0, text) }, body: [])
    if let seconds = response.retryAfter(now: UnixTime(seconds: 0)) { precondition(seconds >= 0, "a wait in the past") }
    if let nonce = response.nonce {
        precondition(nonce.utf8.count <= ACMELimits.nonce && !nonce.contains("\n"), "a nonce that breaks a line")
    }
    _ = response.links("alternate")
    _ = AccountKey(pem: text)
    _ = ExternalAccount(keyID: "kid", key: text)
}
