package import NIOCore
import NIOHTTP1

/// The limits of one client at the edge: sizes, counts, times.
package struct EdgeLimits: Sendable {
    /// The size of a request target in bytes; a larger one gets 414.
    package static let requestTarget = 16 * 1024
    /// The size in bytes of all names and values of a head, without the target; a larger one gets 431.
    package static let headerBlock = 64 * 1024
    package static let headerFields = 128
    package static let trailerFields = 32
    /// The number of bytes that wait for the socket of a connection above which the tunnel gets no more credit.
    package static let socketHighMark = 64 * 1024
    package static let socketLowMark = 32 * 1024
    /// The number of body bytes kept for another attempt until the response begins.
    package static let replay = 64 * 1024
    /// The number of attempts at one request.
    package static let attempts = 3
    /// The number of 1xx heads before the final one.
    static let interimHeads = 32
    /// The number of parts of pipelined requests that may wait behind the current one.
    package static let pipelinedParts = 256

    package var timeouts = EdgeTimeouts()
    /// The time that a closing connection still reads, so that the client's kernel does not discard the response.
    package var linger: TimeAmount = .seconds(2)
    package var connections = 20_000

    package init(timeouts: EdgeTimeouts = EdgeTimeouts()) {
        self.timeouts = timeouts
    }

    /// The limits of the HTTP decoder, which counts the target as a field.
    static var decoder: NIOHTTPDecoderLimitConfiguration {
        var limits = NIOHTTPDecoderLimitConfiguration()
        limits.maxHeaderFieldSize = requestTarget + 64
        limits.maxHeaderListSize = headerBlock + requestTarget
        limits.maxHeaderFieldCount = headerFields
        return limits
    }
}

/// The timeouts of a public connection, as `timeouts` of the configuration sets them.
package struct EdgeTimeouts: Equatable, Sendable {
    /// The time from the TCP connection to the end of its TLS handshake.
    package var tlsHandshake: TimeAmount = .seconds(10)
    /// The time from the first byte of a request's head, or the end of the handshake, to the end of the head.
    package var header: TimeAmount = .seconds(10)
    /// The time without a byte of the request's body although the edge reads, or without the client taking any byte of
    /// a response that waits for it.
    package var bodyIdle: TimeAmount = .seconds(30)
    /// The time that an idle connection is kept open between two requests.
    package var keepAliveIdle: TimeAmount = .seconds(60)
    /// The time from the end of the request to the head of the response; a route's `timeout` replaces it.
    package var responseHead: TimeAmount = .seconds(30)
    /// The time without a byte in either direction on an upgraded connection.
    package var webSocketIdle: TimeAmount = .seconds(120)

    package init() {}
}
