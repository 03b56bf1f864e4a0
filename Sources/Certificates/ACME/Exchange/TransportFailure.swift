/// Why there is no answer to a request.
package enum TransportFailure: Sendable {
    /// It may pass by itself: no connection, no time. The request is sent again a few times.
    case passing
    /// The same would happen again at once: the server is not the one that it has to be.
    case lasting
    /// There was an answer, and it was none of a CA's: too large, or a redirect.
    case senseless
}
