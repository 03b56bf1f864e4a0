package import NIOCore
import NIOHTTP1

/// What one client may take of the edge: sizes, counts, times.
package struct EdgeLimits: Sendable {
    /// Bytes of a request target (414 above).
    package static let requestTarget = 16 * 1024
    /// Bytes of all names and values of a head, without the target (431 above).
    package static let headerBlock = 64 * 1024
    package static let headerFields = 128
    package static let trailerFields = 32
    /// Bytes that may wait in a connection for its socket before the tunnel gets no more credit.
    package static let socketHighMark = 64 * 1024
    package static let socketLowMark = 32 * 1024
    /// Body bytes kept for another attempt until the response begins.
    package static let replay = 64 * 1024
    /// Attempts at one request.
    package static let attempts = 3
    /// 1xx heads before the final one.
    static let interimHeads = 32
    /// Parts of pipelined requests that may wait behind the current one.
    package static let pipelinedParts = 256

    package var timeouts = EdgeTimeouts()
    /// How long a connection that is closing reads what the client still sends, so that the response is not lost.
    package var linger: TimeAmount = .seconds(2)
    package var connections = 20_000

    package init(timeouts: EdgeTimeouts = EdgeTimeouts()) {
        self.timeouts = timeouts
    }

    /// The decoder counts the target as a field.
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
    /// From the TCP connection to the end of its TLS handshake.
    package var tlsHandshake: TimeAmount = .seconds(10)
    /// From the first byte of a request's head, or the end of the handshake, to the end of the head.
    package var header: TimeAmount = .seconds(10)
    /// The time without a byte of the request's body although the edge reads, or without the client taking any byte of
    /// a response that waits for it.
    package var bodyIdle: TimeAmount = .seconds(30)
    /// The time that an idle connection is kept open between two requests.
    package var keepAliveIdle: TimeAmount = .seconds(60)
    /// From the end of the request to the head of the response; a route's `timeout` replaces it.
    package var responseHead: TimeAmount = .seconds(30)
    /// The time without a byte in either direction on an upgraded connection.
    package var webSocketIdle: TimeAmount = .seconds(120)

    package init() {}
}
