package import NIOCore

/// The limits of every request of an ``OutboundClient``. The defaults are the product's; tests use smaller ones.
package struct OutboundLimits: Sendable {
    /// The time for name resolution, TCP and TLS together.
    package var connect = TimeAmount.seconds(10)
    /// The time from the call to the last byte of the body, including the time in the queue and all redirects. A
    /// request may ask for less, not for more.
    package var total = TimeAmount.seconds(30)
    /// The time after which an unused connection is closed, and after which a thread without transfers ends.
    package var idle = TimeAmount.seconds(60)

    /// The maximum number of bytes of a response's body, as sent. Nothing is decompressed.
    package var responseBody = 1 << 20
    /// The maximum number of bytes of all heads and trailers of one response, interim ones included.
    package var responseHead = 64 << 10
    /// The maximum number of fields in all heads and trailers of one response, interim ones included.
    package var responseFields = 128

    /// The maximum number of bytes of a request's body.
    package var requestBody = 1 << 20
    /// The maximum number of bytes of all fields of a request.
    package var requestHead = 64 << 10
    /// The maximum number of bytes of a URL, including the URL of a redirect.
    package var url = 8 << 10

    /// The maximum number of redirects of one request.
    package var redirects = 3
    /// The maximum number of concurrent transfers, and of open connections.
    package var active = 16
    /// The maximum number of concurrent transfers to one origin (scheme, host and port), so that a server that hangs
    /// does not stop requests to others.
    package var activePerOrigin = 6
    /// The maximum number of requests in the queue.
    package var waiting = 256

    package init() {}
}
