package import NIOCore

/// What bounds every request of an ``OutboundClient``. The defaults are the product's; tests use smaller ones.
package struct OutboundLimits: Sendable {
    /// Name look-up, TCP and TLS together.
    package var connect = TimeAmount.seconds(10)
    /// From the call to the last byte of the body: waiting for a turn and redirects are part of it. A request may ask
    /// for less, not for more.
    package var total = TimeAmount.seconds(30)
    /// A kept connection, and the thread when nothing is under way, go after so long.
    package var idle = TimeAmount.seconds(60)

    /// Bytes of a response's body, as sent: nothing is decompressed that was not asked to be compressed.
    package var responseBody = 1 << 20
    /// Bytes of all heads and trailers of one response, interim ones included.
    package var responseHead = 64 << 10
    /// Fields of all heads and trailers of one response, interim ones included.
    package var responseFields = 128

    /// Bytes of a request's body.
    package var requestBody = 1 << 20
    /// Bytes of all fields of a request.
    package var requestHead = 64 << 10
    /// Bytes of a URL, a redirect's included.
    package var url = 8 << 10

    /// Redirects of one request.
    package var redirects = 3
    /// Requests under way at once, and connections that may be open.
    package var active = 16
    /// Requests under way at once to one scheme, host and port: one that hangs does not stop the others.
    package var activePerOrigin = 6
    /// Requests that wait for their turn.
    package var waiting = 256

    package init() {}
}
