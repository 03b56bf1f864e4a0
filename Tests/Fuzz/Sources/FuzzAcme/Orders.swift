import ACME
import Formats
import FuzzDriver
import NIOCore

private let key = AccountKey(raw: (1...32).map { UInt8($0) })!
private let host = "https://ca.test"

/// Runs a machine against a CA whose responses are the input. Checks that the machine ends, sends requests to no other
/// server, responds to no challenge for a name that was not ordered, and removes all responses.
func checkOrder(_ script: inout Script) {
    let names: [CertificateName] = [.dns("a.test"), .dns("*.a.test"), .address("192.0.2.1")]
    let plan = OrderPlan(
        authority: ACMEAuthority(directory: origin, contacts: ["a@a.test"]),
        names: Array(names.prefix(1 + Int(script.byte() % 3))),
        challenges: [.http01, .dns01],
        preferredIssuer: "Other"
    )
    var machine = OrderMachine(plan, account: AccountRecord(directory: origin, key: key), random: { 11 })
    var time: UInt64 = 1
    func now() -> Instant { Instant(uptime: .uptimeNanoseconds(time), wall: UnixTime(seconds: 1_800_000_000)) }
    let end = now().uptime + ACMELimits.longestOrderTime
    var shown: Set<ChallengeTask> = []
    var action = machine.start(now: now())
    // At the end of the input all requests fail, which ends the machine after its retries. A longer input is cut off.
    var steps = 0
    var stepsAfterInput = 0
    while steps < 300 || script.isAtEnd {
        time += 1_000_000
        steps += 1
        if script.isAtEnd { stepsAfterInput += 1 }
        precondition(stepsAfterInput <= 2 * (ACMELimits.faultRetries + 1) + 8, "a machine without end")
        switch action {
        case .send(let request):
            precondition(request.url.isSecure && !request.url.isLoopback, "a request to elsewhere")
            // At the end of the input the CA is away, which ends the machine.
            if script.isAtEnd {
                action = machine.requestFailed("the input has ended", now: now())
            } else {
                action = machine.received(answer(&script, request), now: now())
            }
        case .wait(let until):
            precondition(until <= end, "a wait without end")
            time = max(time, until.uptimeNanoseconds)
            action = machine.waited(now: now())
        case .storeAccount, .storeOrder: action = machine.stored(now: now())
        case .present(let tasks):
            precondition(!tasks.isEmpty && tasks.allSatisfy { names.contains($0.name) }, "an answer for others")
            precondition(tasks.allSatisfy { ACMEChallenge.isToken($0.token) }, "a token that is none")
            shown.formUnion(tasks)
            action =
                script.byte() & 15 == 15
                ? machine.presentationFailed("the input demands it", now: now()) : machine.presentationDone(now: now())
        case .cleanUp(let tasks):
            shown.subtract(tasks)
            action = machine.cleanedUp(now: now())
        case .failed:
            precondition(shown.isEmpty, "answers are left behind")
            return
        case .issued: preconditionFailure("no certificate can exist for a key that was just created")
        case .accountReady: preconditionFailure("a certificate is wanted")
        }
    }
}

/// Returns a valid response with the changes of the input, or one that consists of the input's bytes alone.
private func answer(_ script: inout Script, _ request: ACMERequest) -> ACMEResponse {
    let kind = script.byte()
    var body = template(request, kind)
    var fields: [ACMEResponse.Field] = [.init("Date", "Fri, 15 Jan 2027 08:00:00 GMT")]
    if kind & 0x80 == 0 { fields.append(.init("Replay-Nonce", "n\(kind)")) }
    if kind & 0x40 == 0 { fields.append(.init("Location", "\(host)/order/1")) }
    var status = 200
    switch kind & 0x30 {
    case 0x10:
        // A change in place.
        let (place, count) = (Int(script.byte()) << 8 | Int(script.byte()), Int(script.byte() & 31))
        let bytes = script.bytes(count)
        let start = body.isEmpty ? 0 : place % body.count
        body.replaceSubrange(start..<min(body.count, start + bytes.count), with: bytes)
    case 0x20:
        status = [200, 201, 204, 302, 400, 403, 404, 409, 429, 500, 503, 100][Int(script.byte()) % 12]
        let text = String(decoding: script.bytes(until: 0), as: UTF8.self)
        fields.append(.init("Retry-After", text))
        fields.append(.init("Link", text))
        body = Array("{\"type\":\"urn:ietf:params:acme:error:\(text)\"}".utf8)
    case 0x30:
        body = script.bytes(Int(script.byte()) << 8 | Int(script.byte()))
    default: break
    }
    return ACMEResponse(status: status, fields: fields, body: body)
}

private func template(_ request: ACMERequest, _ kind: UInt8) -> [UInt8] {
    let path = request.url.text.dropFirst(host.count)
    let status = ["pending", "ready", "processing", "valid", "invalid", "expired"]
    let state = status[Int(kind & 15) % status.count]
    let text: String
    if path == "/dir" {
        text = #"{"newNonce":"\#(host)/nonce","newAccount":"\#(host)/account","newOrder":"\#(host)/new"}"#
    } else if path == "/account" {
        text = #"{"status":"valid"}"#
    } else if path.hasPrefix("/authz") {
        let error = #""error":{"type":"urn:ietf:params:acme:error:dns","detail":"no"}"#
        text =
            #"{"status":"\#(state)","identifier":{"type":"dns","value":"a.test"},"challenges":["#
            + #"{"type":"http-01","url":"\#(host)/chall/1","status":"pending","token":"abc"},"#
            + #"{"type":"dns-01","url":"\#(host)/chall/2","status":"\#(state)","token":"def",\#(error)}]}"#
    } else {
        text =
            #"{"status":"\#(state)","identifiers":[{"type":"dns","value":"a.test"}],"#
            + #""authorizations":["\#(host)/authz/1"],"finalize":"\#(host)/fin","certificate":"\#(host)/cert"}"#
    }
    return Array(text.utf8)
}
