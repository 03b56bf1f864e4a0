import NIOCore

/// The HTTP client for requests that the gateway itself makes: to certificate authorities, hooks and key endpoints of
/// identity providers. It holds bodies whole, within ``OutboundLimits``, and is not for proxied traffic.
///
/// # Behaviour
/// TLS is 1.2 or 1.3 and always verified; the server chooses between HTTP/1.1 and HTTP/2. There are no cookies, no
/// netrc and no decompression. A response without explicit framing is refused. Redirects are followed for GET and HEAD
/// within the same scheme, host and port.
///
/// The proxy that the environment names (`HTTPS_PROXY`, `ALL_PROXY`, `NO_PROXY`) is used unless the owner turns it off,
/// since many networks reach a CA in no other way. TLS goes through the proxy to the server. Requests to loopback
/// addresses never use a proxy.
///
/// # Threads
/// - Any task calls ``send(_:)``. It checks the request (``CheckedRequest``), puts a ``PendingTransfer`` into the queue
///   of the ``TransferThread``, wakes the thread and suspends until the transfer is finished.
/// - Only the transfer thread calls libcurl, apart from `ccurl_multi_wakeup` and the parsing of URLs. The first request
///   starts it; it ends when it has been idle for ``OutboundLimits/idle``, or with ``close()``. Kept connections end
///   with it.
/// - On that thread a ``TransferDriver`` owns the libcurl multi handle. Each turn of its loop starts queued transfers,
///   lets libcurl do what is possible without waiting, finishes transfers that have ended, and waits in
///   `ccurl_multi_poll`.
/// - A task that is cancelled finishes its ``PendingTransfer`` itself and wakes the thread, which then removes the
///   transfer from libcurl.
///
/// The owner calls ``close()`` when it no longer needs the client.
package final class OutboundClient: Sendable {
    private let thread: TransferThread

    /// Creates a client. No thread is started before the first request.
    ///
    /// - Parameters:
    ///   - userAgent: The value of the `User-Agent` field, as in `hopgate/VERSION`.
    ///   - usesProxy: Whether the proxy that the environment names is used.
    ///   - limits: Time, size and concurrency limits of every request.
    package init(userAgent: String, usesProxy: Bool = true, limits: OutboundLimits = OutboundLimits()) {
        thread = TransferThread(userAgent: userAgent, usesProxy: usesProxy, limits: limits)
    }

    deinit { thread.close(nil) }

    /// Sends a request and returns the whole response, of any status.
    ///
    /// When the calling task is cancelled, this throws and the transfer ends without delay.
    ///
    /// - Throws: ``OutboundError`` if there is no complete response. A status of 400 or more is not an error.
    package func send(_ request: OutboundRequest) async throws(OutboundError) -> OutboundResponse {
        let checked = try CheckedRequest(request, limits: thread.limits)
        let pending = PendingTransfer(checked, deadline: .now() + checked.timeout)
        let result = await withTaskCancellationHandler {
            thread.submit(pending)
            return await pending.result()
        } onCancel: {
            thread.cancel(pending)
        }
        return try result.get()
    }

    /// Fails every queued and active request with ``OutboundError/Code/closed`` and returns when the thread and its
    /// connections are gone. Later requests fail at once. May be called repeatedly.
    package func close() async {
        await withCheckedContinuation { thread.close($0) }
    }

    /// The number of requests that wait in the queue, and of those that are being transferred.
    package var load: (waiting: Int, active: Int) { thread.load }
}
