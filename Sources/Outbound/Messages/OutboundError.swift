/// The failure of a request that has no complete response: the URL, the cause and the remedy.
///
/// A response with a status of 400 or more is not an error here.
package struct OutboundError: Error, Equatable, Sendable, CustomStringConvertible {
    package enum Code: Equatable, Sendable {
        /// The URL, a field or the body cannot be sent.
        case invalidRequest
        /// The scheme is neither `https` nor `http` to a loopback address.
        case notHTTPS
        /// The name could not be resolved.
        case dns
        /// The proxy that the environment names does not respond, or refused the connection.
        case proxy
        /// The TCP connection failed.
        case connect
        /// The TLS handshake failed: no common version or cipher, or an alert.
        case tls
        /// The server's certificate failed verification.
        case certificate(CertificateProblem)
        /// The CA bundle of this request cannot be read.
        case trust
        case timeout(Phase)
        case tooLarge(Part)
        /// The server's data is not valid HTTP.
        case malformed
        /// The connection ended before the response was complete.
        case truncated
        /// A redirect to another origin, more redirects than the limit, or one for a method that is not repeated.
        case redirectRefused
        /// The queue is full.
        case busy
        /// The calling task was cancelled.
        case cancelled
        /// The client was closed.
        case closed
        /// Memory or threads are exhausted, or libcurl failed without a more specific reason.
        case failed
    }

    package enum CertificateProblem: Equatable, Sendable {
        /// The chain does not lead to a trusted authority.
        case untrusted
        case expired
        case notYetValid
        /// The certificate does not cover the host.
        case wrongName
        case other
    }

    /// The phase in which a request timed out.
    package enum Phase: String, Equatable, Sendable {
        /// The request waited in the queue.
        case queue
        case lookup
        case connect
        case tls
        /// The request was being sent, or no response had begun.
        case response
        /// The response had begun.
        case body
    }

    package enum Part: Equatable, Sendable {
        case head
        case body
    }

    package let code: Code
    /// The URL without query, user name and password.
    package let url: String
    package let reason: String
    /// Whether the server may have received the request. If `false`, it provably did not, and the request can be
    /// repeated.
    package let mayHaveArrived: Bool

    init(_ code: Code, _ url: String, _ reason: String, mayHaveArrived: Bool) {
        self.code = code
        self.url = url
        self.reason = reason
        self.mayHaveArrived = mayHaveArrived
    }

    package var description: String { "\(url): \(reason)" }

    /// Whether the cause may pass without intervention, so that a later attempt is worthwhile.
    package var isTransient: Bool {
        switch code {
        case .dns, .proxy, .connect, .tls, .timeout, .truncated, .malformed, .busy, .failed: true
        // The server's operator may be about to replace it.
        case .certificate(.expired): true
        case .certificate, .trust, .invalidRequest, .notHTTPS, .tooLarge, .redirectRefused, .cancelled, .closed: false
        }
    }
}

extension OutboundError {
    static func cancelled(_ url: String) -> OutboundError {
        OutboundError(.cancelled, url, "the request was cancelled", mayHaveArrived: true)
    }

    static func closed(_ url: String, mayHaveArrived: Bool) -> OutboundError {
        OutboundError(.closed, url, "the client of this request was closed", mayHaveArrived: mayHaveArrived)
    }

    static func busy(_ url: String, _ limit: Int) -> OutboundError {
        OutboundError(
            .busy,
            url,
            "\(limit) requests are queued already; find out which server is slow",
            mayHaveArrived: false
        )
    }

    static func expiredInQueue(_ url: String) -> OutboundError {
        OutboundError(
            .timeout(.queue),
            url,
            "the request timed out in the queue; find out which server is slow",
            mayHaveArrived: false
        )
    }

    static func failed(_ url: String, _ reason: String, mayHaveArrived: Bool) -> OutboundError {
        OutboundError(.failed, url, reason, mayHaveArrived: mayHaveArrived)
    }
}
