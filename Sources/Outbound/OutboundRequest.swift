package import NIOCore

/// What makes a client believe a server's certificate. There is no way to believe any.
package enum OutboundTrust: Hashable, Sendable {
    /// The authorities of the operating system.
    case system
    /// The certificates of a PEM file instead of the system's, read for each connection on the client's thread: not
    /// for a file on a network file system.
    case file(path: String)
    /// Certificates as PEM, instead of the system's.
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
    /// Absolute, in ASCII, without user name and password. `https`, or `http` to a loopback address.
    package var url: String
    /// Sent in this order. `Host`, `User-Agent`, the body's length and what concerns the connection are the client's.
    package var fields: [(name: String, value: String)]
    /// For post, put and delete.
    package var body: [UInt8]
    package var trust: OutboundTrust
    /// Instead of ``OutboundLimits/total``, when it is shorter.
    package var timeout: TimeAmount?
    /// It does no harm when the server gets it twice, which can happen when a kept connection ends before the first
    /// byte of the answer. False: the request goes over a new connection, and is sent once. For all methods but post
    /// it is true unless changed (RFC 9110 §9.2.2).
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
