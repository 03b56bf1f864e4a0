package import ACME
import Formats
package import NIOCore
package import Outbound
import Store

/// A hook that calls a server: `POST URL/present` and `POST URL/cleanup` with a JSON object of the fields `fqdn` (with
/// a trailing dot) and `value`. This is the default mode of lego's provider `httpreq`, so that servers that were
/// written for it can be used.
///
/// A status of 200 to 299 is success.
package struct HTTPHook: DNSHook {
    /// The time for one response.
    package static let deadline = TimeAmount.seconds(30)
    /// The number of characters of a response that an error message contains.
    static let displayedLength = 300

    private let base: String
    private let credential: HookCredential?
    private let trust: OutboundTrust
    private let client: OutboundClient
    private let timeout: TimeAmount

    /// - Parameters:
    ///   - url: The URL of the server, without a query.
    ///   - client: The client that sends requests; its owner closes it.
    package init(
        _ url: ACMEURL,
        credential: HookCredential? = nil,
        trust: OutboundTrust = .system,
        client: OutboundClient,
        timeout: TimeAmount = deadline
    ) {
        var base = url.text
        while base.hasSuffix("/") { base.removeLast() }
        self.base = base
        self.credential = credential
        self.trust = trust
        self.client = client
        self.timeout = timeout
    }

    package func perform(_ action: HookAction, _ task: ChallengeTask) async throws(PresentationError) {
        let url = "\(base)/\(action.rawValue)"
        let message: [String: JSONValue] = [
            "fqdn": .string("\(task.recordName)."), "value": .string(task.recordValue),
        ]
        var fields = [("Content-Type", "application/json"), ("Accept", "application/json, text/plain;q=0.5")]
        if let credential { fields.append(("Authorization", credential.authorization)) }
        let request = OutboundRequest(.post, url, fields: fields, body: message.json, trust: trust, timeout: timeout)
        let response: OutboundResponse
        do {
            response = try await client.send(request)
        } catch {
            throw PresentationError("the DNS hook was not reached for \(task.recordName): \(error)")
        }
        guard (200..<300).contains(response.status) else {
            throw PresentationError(
                "the DNS hook answered \(response.status) to POST \(url) for \(task.recordName)\(Self.details(response))"
            )
        }
    }

    /// Returns the first line of an error response, and the usual remedy.
    private static func details(_ response: OutboundResponse) -> String {
        let start = response.body.drop { $0 <= 0x20 }.prefix(4 * displayedLength)
        let line = start.prefix { $0 != 0x0a && $0 != 0x0d }
        let text = UntrustedText.sanitised(String(decoding: line, as: UTF8.self), limit: displayedLength)
        let message = text.isEmpty ? "" : ": \(text)"
        return switch response.status {
        case 401, 403: "\(message); check acme.dns.hook_token"
        case 404, 405: "\(message); acme.dns.hook has to be the URL below which \"present\" and \"cleanup\" are"
        default: message
        }
    }
}
