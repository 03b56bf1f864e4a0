internal import NIOCore

/// The HTTP client for what the gateway itself asks of others: certificate authorities, hooks, keys of identity
/// providers. Bodies are held whole, within ``OutboundLimits``; it is not for proxied traffic.
///
/// All transfers run on one thread of its own, which exists while there is something to do and
/// ``OutboundLimits/idle`` longer. TLS is 1.2 or 1.3 and always verified; HTTP/1.1 or HTTP/2 is what the server
/// prefers. No cookies, no netrc, no decompression; a response that does not say where it ends is refused. Redirects are followed for get and head within the same scheme,
/// host and port.
///
/// The proxy that the environment names (`HTTPS_PROXY`, `ALL_PROXY`, `NO_PROXY`) is used unless the owner says
/// otherwise, since many networks reach a CA in no other way; TLS goes through it to the server. Loopback addresses
/// are never asked through one.
///
/// Its owner calls ``close()``.
package final class OutboundClient: Sendable {
    private let thread: TransferThread

    /// - Parameters:
    ///   - userAgent: `hopgate/VERSION`.
    ///   - usesProxy: the proxy that the environment names is used.
    package init(userAgent: String, usesProxy: Bool = true, limits: OutboundLimits = OutboundLimits()) {
        thread = TransferThread(userAgent: userAgent, usesProxy: usesProxy, limits: limits)
    }

    deinit { thread.close(nil) }

    /// Sends a request and returns the whole response, whatever its status.
    ///
    /// When the calling task is cancelled, it throws at once, and the transfer ends at once.
    package func send(_ request: OutboundRequest) async throws(OutboundError) -> OutboundResponse {
        let checked = try CheckedRequest(request, limits: thread.limits)
        let exchange = PendingTransfer(checked, deadline: .now() + checked.timeout)
        let result = await withTaskCancellationHandler {
            thread.submit(exchange)
            return await exchange.result()
        } onCancel: {
            thread.cancel(exchange)
        }
        return try result.get()
    }

    /// Ends every request, waiting or under way, and returns when the thread and its connections are gone. Requests
    /// made later fail at once.
    package func close() async {
        await withCheckedContinuation { thread.close($0) }
    }

    /// Requests that wait for their turn, and those under way.
    package var load: (waiting: Int, active: Int) { thread.load }
}
