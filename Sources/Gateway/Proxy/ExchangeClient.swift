import HopProtocol
import NIOCore

/// The public side of an ``ProxyExchange``: one request on a connection of whatever version of HTTP. All calls on the
/// connection's loop.
protocol ExchangeClient: AnyObject {
    /// A 1xx head but 101.
    func sendInterim(_ head: ResponseHead)
    /// The final head; 101 turns both directions into raw bytes. Throws when it cannot be written in one reading.
    func sendHead(_ head: ResponseHead) throws(HopError)
    func sendBody(_ bytes: ByteBuffer)
    func sendTrailers(_ trailers: FieldSection)
    /// The response is complete (behind a 101: that direction is over).
    func sendEnd()
    /// No head was sent: answers with an error page.
    func sendRefusal(_ refusal: ProxyError, requestID: String)
    /// A head was sent: the response is broken off so that it never looks complete.
    func abortResponse()
    /// Back-pressure of the request's body.
    func pauseReading()
    func resumeReading()
}
