/// Why a request has no response: what, to where, and how to mend it.
///
/// A response with a status of 400 or more is no error here.
package struct OutboundError: Error, Equatable, Sendable, CustomStringConvertible {
    package enum Code: Equatable, Sendable {
        /// The URL, a field or the body is not something that can be sent.
        case invalidRequest
        /// `http` to an address that is not this machine's own, or another scheme.
        case notHTTPS
        /// The name could not be resolved.
        case dns
        /// The proxy that the environment names does not answer, or refused.
        case proxy
        /// No TCP connection.
        case connect
        /// No TLS session: no common version or cipher, or an alert.
        case tls
        /// The server's certificate was refused.
        case certificate(CertificateProblem)
        /// The CA bundle of this request cannot be read.
        case trust
        case timeout(Phase)
        case tooLarge(Part)
        /// What arrived is no HTTP.
        case malformed
        /// The connection ended before the response was whole.
        case cut
        /// Elsewhere, too often, or for a method that is not repeated.
        case redirectRefused
        /// More requests are waiting than the client holds back.
        case busy
        /// The task that asked was cancelled.
        case cancelled
        /// The client was closed.
        case closed
        /// Memory, threads, or something that libcurl does not explain.
        case failed
    }

    package enum CertificateProblem: Equatable, Sendable {
        /// No authority that is believed stands behind it.
        case untrusted
        case expired
        case notYetValid
        /// It is for other names.
        case wrongName
        case other
    }

    /// What was going on when the time was over.
    package enum Phase: String, Equatable, Sendable {
        /// Waiting for a turn.
        case queue
        case lookup
        case connect
        case tls
        /// The request was being sent, or the server had not answered yet.
        case response
        /// A part of the response had arrived.
        case body
    }

    package enum Part: Equatable, Sendable {
        case head
        case body
    }

    package let code: Code
    /// Without query, user name and password.
    package let url: String
    package let reason: String
    /// The server may have seen the request. False: it provably did not, and the request can be repeated.
    package let mayHaveArrived: Bool

    init(_ code: Code, _ url: String, _ reason: String, mayHaveArrived: Bool) {
        self.code = code
        self.url = url
        self.reason = reason
        self.mayHaveArrived = mayHaveArrived
    }

    package var description: String { "\(url): \(reason)" }

    /// May pass by itself: worth another try later.
    package var isTransient: Bool {
        switch code {
        case .dns, .proxy, .connect, .tls, .timeout, .cut, .malformed, .busy, .failed: true
        // The server's administrators may be about to replace it.
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
            "\(limit) requests are waiting already; see which server is so slow",
            mayHaveArrived: false
        )
    }

    static func late(_ url: String) -> OutboundError {
        OutboundError(
            .timeout(.queue),
            url,
            "the time was over before it was this request's turn; see which server is so slow",
            mayHaveArrived: false
        )
    }

    static func failed(_ url: String, _ reason: String, mayHaveArrived: Bool) -> OutboundError {
        OutboundError(.failed, url, reason, mayHaveArrived: mayHaveArrived)
    }
}
