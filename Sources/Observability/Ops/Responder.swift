package import NIOCore
package import NIOHTTP1

/// A complete request to a ``ResponderServer``.
package struct ResponderRequest: Sendable {
    package var method: HTTPMethod
    /// The path without the query.
    package var path: String
    /// The query without its question mark; empty if there is none.
    package var query: String
    package var fields: HTTPHeaders
    /// The body; empty if the server accepts none.
    package var body: ByteBuffer
    package var remote: SocketAddress?

    package init(
        method: HTTPMethod,
        path: String,
        query: String = "",
        fields: HTTPHeaders = [:],
        body: ByteBuffer = ByteBuffer(),
        remote: SocketAddress? = nil
    ) {
        self.method = method
        self.path = path
        self.query = query
        self.fields = fields
        self.body = body
        self.remote = remote
    }
}

/// A complete answer of a ``ResponderServer``.
package struct ResponderAnswer: Sendable {
    package var status: HTTPResponseStatus
    package var type: String
    /// Fields beyond those that every answer has.
    package var fields: [(name: String, value: String)]
    package var body: ByteBuffer

    package init(
        _ status: HTTPResponseStatus,
        type: String = "text/plain; charset=utf-8",
        fields: [(name: String, value: String)] = [],
        body: ByteBuffer
    ) {
        self.status = status
        self.type = type
        self.fields = fields
        self.body = body
    }

    /// The answer 405.
    ///
    /// - Parameter methods: The supported methods, as the value of `Allow`.
    package static func methodNotAllowed(_ methods: String, body: ByteBuffer) -> ResponderAnswer {
        ResponderAnswer(.methodNotAllowed, fields: [("allow", methods)], body: body)
    }
}

/// Limits of a ``ResponderServer``.
package struct ResponderLimits: Sendable {
    /// The maximum number of open connections; further ones are closed at once.
    package var maximumConnections = 64
    /// The time from the connection, or from the last answer, to the end of the next request.
    package var requestTimeout = TimeAmount.seconds(10)
    /// The time until the client has received an answer.
    package var responseTimeout = TimeAmount.seconds(10)
    /// The maximum number of bytes of a request's body; a longer one gets 413. If 0, bodies are not read: a request
    /// with a body is answered and its connection closed.
    package var maximumBody = 0

    package init() {}
}
