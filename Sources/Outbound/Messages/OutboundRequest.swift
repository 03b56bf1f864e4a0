package import NIOCore

/// The trust anchors for verifying a server's certificate. Verification cannot be turned off.
package enum OutboundTrust: Hashable, Sendable {
    /// The operating system's certificate store.
    case system
    /// The certificates of a PEM file instead of the system's. The transfer thread reads it for each connection, so it
    /// must not lie on a network file system.
    case file(path: String)
    /// PEM-encoded certificates instead of the system's.
    case pem([UInt8])
}

/// One request to a server outside the cluster.
package struct OutboundRequest: Sendable {
    package enum Method: String, Sendable {
        case get = "GET"
        case head = "HEAD"
        case post = "POST"
        case put = "PUT"
        case delete = "DELETE"
    }

    package var method: Method
    /// An absolute ASCII URL without user name and password: `https`, or `http` to a loopback address.
    package var url: String
    /// The fields, in the order in which they are sent. The client sets `Host`, `User-Agent`, the body's length and
    /// connection-specific fields itself.
    package var fields: [(name: String, value: String)]
    /// The body of a POST, PUT or DELETE request.
    package var body: [UInt8]
    package var trust: OutboundTrust
    /// A time limit below ``OutboundLimits/total``, or `nil` for that limit.
    package var timeout: TimeAmount?
    /// Whether the server may receive the request twice, which can happen when a kept connection ends before the first
    /// byte of the response. If `false`, the request uses a new connection and is sent once. The default is `true` for
    /// all methods but POST (RFC 9110 §9.2.2).
    package var mayRepeat: Bool

    package init(
        _ method: Method,
        _ url: String,
        fields: [(name: String, value: String)] = [],
        body: [UInt8] = [],
        trust: OutboundTrust = .system,
        timeout: TimeAmount? = nil,
        mayRepeat: Bool? = nil
    ) {
        self.method = method
        self.url = url
        self.fields = fields
        self.body = body
        self.trust = trust
        self.timeout = timeout
        self.mayRepeat = mayRepeat ?? (method != .post)
    }
}
