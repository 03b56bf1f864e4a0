/// The reason why a response of an origin cannot be forwarded.
package struct OriginError: Error, Equatable, Sendable {
    package enum Code: Equatable, Sendable {
        /// The response is not HTTP/1.1 (RFC 9112).
        case violation
        /// The response ended before it was complete.
        case truncated
    }

    package var code: Code
    package var message: String

    package init(_ code: Code, _ message: String) {
        self.code = code
        self.message = message
    }
}
