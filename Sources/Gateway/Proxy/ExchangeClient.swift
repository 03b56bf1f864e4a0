import HopProtocol
import NIOCore

/// The public side of a ``ProxyExchange``: one request on a connection of any version of HTTP. All calls are made
/// on the connection's loop.
protocol ExchangeClient: AnyObject {
    /// Sends a 1xx head other than 101.
    func sendInterim(_ head: ResponseHead)
    /// Sends the final head. 101 turns both directions into raw bytes.
    ///
    /// - Throws: If the head could be read in more than one way; nothing was sent then.
    func sendHead(_ head: ResponseHead) throws(HopError)
    func sendBody(_ bytes: ByteBuffer)
    func sendTrailers(_ trailers: FieldSection)
    /// Completes the response; behind a 101, ends that direction.
    func sendEnd()
    /// Responds with an error page. No head has been sent.
    func sendError(_ error: ProxyError, requestID: String)
    /// Aborts a response whose head was sent, so that it does not look complete.
    func abortResponse()
    /// Applies back-pressure to the body of the request.
    func pauseReading()
    func resumeReading()
}
