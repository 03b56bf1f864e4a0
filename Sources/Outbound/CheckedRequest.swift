internal import NIOCore

/// A request that may be sent: its URL is allowed and no field can smuggle in another.
struct CheckedRequest: Sendable {
    let method: OutboundRequest.Method
    let url: OutboundURL
    /// `Name: value` each, as libcurl takes them.
    let lines: [String]
    let body: [UInt8]
    let trust: OutboundTrust
    let timeout: TimeAmount
    let mayRepeat: Bool

    init(_ request: OutboundRequest, limits: OutboundLimits) throws(OutboundError) {
        url = try Self.url(request.url, limits)
        let shown = url.shown
        method = request.method
        trust = request.trust
        timeout = max(.milliseconds(1), min(request.timeout ?? limits.total, limits.total))
        mayRepeat = request.mayRepeat
        body = request.body
        guard body.isEmpty || (method != .get && method != .head) else {
            throw Self.invalid(shown, "\(method.rawValue) has no body")
        }
        guard body.count <= limits.requestBody else {
            throw Self.invalid(shown, "the body is larger than \(limits.requestBody) bytes")
        }
        lines = try Self.lines(request, shown)
        guard lines.reduce(0, { $0 + $1.utf8.count + 2 }) <= limits.requestHead else {
            throw Self.invalid(shown, "the fields are larger than \(limits.requestHead) bytes")
        }
    }

    /// Post and put have a body, if only an empty one.
    var hasBody: Bool { method == .post || method == .put || !body.isEmpty }

    // MARK: The URL

    private static func url(_ text: String, _ limits: OutboundLimits) throws(OutboundError) -> OutboundURL {
        let url: OutboundURL
        do {
            url = try OutboundURL(text, limit: limits.url)
        } catch {
            throw invalid(OutboundURL.shown(text), reason(error, limits))
        }
        try allow(url)
        return url
    }

    static func reason(_ problem: OutboundURL.Problem, _ limits: OutboundLimits) -> String {
        switch problem {
        case .malformed: "is no absolute URL; write https://HOST/PATH, with nothing but ASCII characters"
        case .hasCredentials: "holds a user name or a password; remove it, and send an Authorization field"
        case .tooLong: "is longer than \(limits.url) bytes"
        }
    }

    private static func allow(_ url: OutboundURL) throws(OutboundError) {
        if url.isHTTPS || (url.scheme == "http" && url.isLoopback) { return }
        throw OutboundError(
            .notHTTPS,
            url.shown,
            "is not https, and its host is not 127.0.0.1, ::1 or localhost; write https://",
            mayHaveArrived: false
        )
    }

    // MARK: Fields

    /// What the client says itself, and what concerns the connection (RFC 9110 §7.6.1).
    private static let reserved: Set<String> = [
        "connection", "content-length", "expect", "host", "keep-alive", "proxy-authorization", "proxy-connection", "te",
        "trailer", "transfer-encoding", "upgrade", "user-agent",
    ]

    private static func lines(_ request: OutboundRequest, _ url: String) throws(OutboundError) -> [String] {
        // libcurl adds these by itself, unless told not to.
        var lines = ["Expect:"]
        if !request.fields.contains(where: { $0.name.lowercased() == "content-type" }) { lines.append("Content-Type:") }
        for (name, value) in request.fields {
            guard !name.isEmpty, name.utf8.allSatisfy(ResponseParts.isTokenByte) else {
                throw invalid(url, "\"\(OutboundURL.plain(name.utf8.prefix(100)))\" is no name of a field")
            }
            guard !reserved.contains(name.lowercased()) else {
                throw invalid(url, "the field \(name) is the client's own; leave it out")
            }
            guard value.utf8.allSatisfy({ $0 == 0x09 || (0x20...0x7E).contains($0) || $0 >= 0x80 }) else {
                throw invalid(url, "the value of the field \(name) holds a line break or another control character")
            }
            // A colon and nothing behind it would remove the field.
            let isBlank = value.utf8.allSatisfy { $0 == 0x20 || $0 == 0x09 }
            lines.append(isBlank ? "\(name);" : "\(name): \(value)")
        }
        return lines
    }

    private static func invalid(_ url: String, _ reason: String) -> OutboundError {
        OutboundError(.invalidRequest, url, reason, mayHaveArrived: false)
    }
}
