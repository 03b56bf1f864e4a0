/// Why an origin's answer cannot be passed on.
package struct OriginError: Error, Equatable, Sendable {
    package enum Code: Equatable, Sendable {
        /// It is not HTTP/1.1 as RFC 9112 has it.
        case violation
        /// It ended before it was complete.
        case truncated
    }

    package var code: Code
    package var message: String

    package init(_ code: Code, _ message: String) {
        self.code = code
        self.message = message
    }
}
