import NIOCore

/// An ``OutboundRequest`` that has been validated: its URL is allowed and no field can inject another one.
struct CheckedRequest: Sendable {
    let method: OutboundRequest.Method
    let url: OutboundURL
    /// The field lines in the form that libcurl expects: `Name: value`, or `Name;` for an empty value.
    let lines: [String]
    let body: [UInt8]
    let trust: OutboundTrust
    let timeout: TimeAmount
    let mayRepeat: Bool

    /// Validates a request.
    ///
    /// - Throws: ``OutboundError`` with the code `invalidRequest` or `notHTTPS`.
    init(_ request: OutboundRequest, limits: OutboundLimits) throws(OutboundError) {
        url = try Self.url(request.url, limits)
        let redacted = url.redacted
        method = request.method
        trust = request.trust
        timeout = max(.milliseconds(1), min(request.timeout ?? limits.total, limits.total))
        mayRepeat = request.mayRepeat
        body = request.body
        guard body.isEmpty || (method != .get && method != .head) else {
            throw Self.invalid(redacted, "\(method.rawValue) has no body")
        }
        guard body.count <= limits.requestBody else {
            throw Self.invalid(redacted, "the body is larger than \(limits.requestBody) bytes")
        }
        lines = try Self.lines(request, redacted)
        guard lines.reduce(0, { $0 + $1.utf8.count + 2 }) <= limits.requestHead else {
            throw Self.invalid(redacted, "the fields are larger than \(limits.requestHead) bytes")
        }
    }

    /// Whether a body is sent. POST and PUT always have one, possibly empty.
    var hasBody: Bool { method == .post || method == .put || !body.isEmpty }

    // MARK: The URL

    private static func url(_ text: String, _ limits: OutboundLimits) throws(OutboundError) -> OutboundURL {
        let url: OutboundURL
        do {
            url = try OutboundURL(text, limit: limits.url)
        } catch {
            throw invalid(OutboundURL.redacted(text), reason(error, limits))
        }
        try requireHTTPS(url)
        return url
    }

    /// The text of an error about a URL, to be read after the URL itself.
    static func reason(_ problem: OutboundURL.Problem, _ limits: OutboundLimits) -> String {
        switch problem {
        case .malformed: "is not an absolute URL; write https://HOST/PATH in ASCII"
        case .hasCredentials: "holds a user name or a password; remove it, and send an Authorization field"
        case .tooLong: "is longer than \(limits.url) bytes"
        }
    }

    private static func requireHTTPS(_ url: OutboundURL) throws(OutboundError) {
        if url.isHTTPS || (url.scheme == "http" && url.isLoopback) { return }
        throw OutboundError(
            .notHTTPS,
            url.redacted,
            "is not https, and its host is not 127.0.0.1, ::1 or localhost; write https://",
            mayHaveArrived: false
        )
    }

    // MARK: Fields

    /// Names of fields that the client sets itself, and of connection-specific fields (RFC 9110 §7.6.1).
    private static let reserved: Set<String> = [
        "connection", "content-length", "expect", "host", "keep-alive", "proxy-authorization", "proxy-connection", "te",
        "trailer", "transfer-encoding", "upgrade", "user-agent",
    ]

    private static func lines(_ request: OutboundRequest, _ url: String) throws(OutboundError) -> [String] {
        // libcurl adds these two by itself; a name without a value suppresses them.
        var lines = ["Expect:"]
        if !request.fields.contains(where: { $0.name.lowercased() == "content-type" }) { lines.append("Content-Type:") }
        for (name, value) in request.fields {
            guard !name.isEmpty, name.utf8.allSatisfy(ResponseParts.isTokenByte) else {
                throw invalid(url, "\"\(OutboundURL.printable(name.utf8.prefix(100)))\" is not a field name")
            }
            guard !reserved.contains(name.lowercased()) else {
                throw invalid(url, "the field \(name) is set by the client; remove it")
            }
            guard value.utf8.allSatisfy({ $0 == 0x09 || (0x20...0x7E).contains($0) || $0 >= 0x80 }) else {
                throw invalid(url, "the value of the field \(name) holds a line break or another control character")
            }
            // libcurl would drop a field that ends with its colon; the semicolon sends it with an empty value.
            let isBlank = value.utf8.allSatisfy { $0 == 0x20 || $0 == 0x09 }
            lines.append(isBlank ? "\(name);" : "\(name): \(value)")
        }
        return lines
    }

    private static func invalid(_ url: String, _ reason: String) -> OutboundError {
        OutboundError(.invalidRequest, url, reason, mayHaveArrived: false)
    }
}
