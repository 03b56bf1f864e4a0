package import NIOCore
package import NIOHTTP1

/// One request of a small server for operators, whole.
package struct ResponderRequest: Sendable {
    package var method: HTTPMethod
    /// Without what follows `?`.
    package var path: String
    package var fields: HTTPHeaders
    /// Empty where the server takes none.
    package var body: ByteBuffer
    package var remote: SocketAddress?

    package init(
        method: HTTPMethod,
        path: String,
        fields: HTTPHeaders = [:],
        body: ByteBuffer = ByteBuffer(),
        remote: SocketAddress? = nil
    ) {
        self.method = method
        self.path = path
        self.fields = fields
        self.body = body
        self.remote = remote
    }
}

/// What it is answered.
package struct ResponderAnswer: Sendable {
    package var status: HTTPResponseStatus
    package var type: String
    /// Beyond those that every answer has.
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

    /// - Parameter methods: those that there are, as `Allow` lists them.
    package static func methodNotAllowed(_ methods: String, body: ByteBuffer) -> ResponderAnswer {
        ResponderAnswer(.methodNotAllowed, fields: [("allow", methods)], body: body)
    }
}

/// Limits of a ``ResponderServer``.
package struct ResponderLimits: Sendable {
    /// Connections at a time; the next ones are closed at once.
    package var maximumConnections = 64
    /// From the connection, or from the last response, to the end of the next request.
    package var requestTimeout = TimeAmount.seconds(10)
    /// From the answer until the client has taken it.
    package var responseTimeout = TimeAmount.seconds(10)
    /// Bytes of a request's body; more is 413. Zero: bodies are not read, a request that brings one is answered and its
    /// connection closed.
    package var maximumBody = 0

    package init() {}
}
