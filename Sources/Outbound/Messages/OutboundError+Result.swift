import CCurl

extension OutboundError {
    /// Creates the error for a transfer that ended without a complete response.
    ///
    /// - Parameters:
    ///   - hasHead: Whether a part of the response had arrived.
    ///   - isRedirected: Whether this hop follows a redirect, so that the original request was received.
    init(_ result: ccurl_result, url: OutboundURL, hasHead: Bool, isRedirected: Bool, limits: OutboundLimits) {
        let message = Self.message(of: result)
        let phase = Self.phase(result.phase, hasHead: hasHead)
        let (code, reason): (Code, String) =
            switch result.outcome {
            case CCURL_NO_NAME:
                (.dns, "the name \(url.host) cannot be resolved; check the name, and DNS on this machine")
            case CCURL_PROXY:
                (.proxy, Self.proxy(message))
            case CCURL_NO_CONNECTION:
                (
                    .connect,
                    "no connection: \(message); check that the server runs, and that no firewall is in between"
                )
            case CCURL_TLS:
                (
                    .tls,
                    "no TLS session: \(message); check that the port speaks TLS 1.2 or 1.3, and that the root in the "
                        + "CA bundle is the server's current one"
                )
            case CCURL_CERTIFICATE:
                Self.certificate(result.certificate, message, url)
            case CCURL_AUTHORITIES:
                (
                    .trust,
                    "the CA bundle cannot be used: \(message); give a readable PEM file, or install ca-certificates"
                )
            case CCURL_TIMEOUT:
                (.timeout(phase), Self.timeoutReason(phase))
            case CCURL_TOO_LARGE:
                (.tooLarge(.body), Self.tooLargeBody(limits))
            case CCURL_HEAD_TOO_LARGE:
                (.tooLarge(.head), Self.tooLargeHead(limits))
            case CCURL_MALFORMED:
                (.malformed, "the response is not HTTP: \(message); check that the URL is the right one")
            case CCURL_CUT where result.proxy_status >= 300:
                (.proxy, Self.proxy("it responded to CONNECT with \(result.proxy_status)"))
            case CCURL_CUT:
                (.truncated, "the connection ended before the response was complete: \(message)")
            default:
                (.failed, message)
            }
        let mayHaveArrived = isRedirected || result.phase == CCURL_PHASE_EXCHANGE
        self.init(code, url.redacted, reason, mayHaveArrived: mayHaveArrived)
    }

    /// Creates the error for a response that ``ResponseParts`` refused.
    init(_ fault: ResponseFault, url: OutboundURL, limits: OutboundLimits) {
        let (code, reason): (Code, String) =
            switch fault {
            case .headTooLarge: (.tooLarge(.head), Self.tooLargeHead(limits))
            case .bodyTooLarge: (.tooLarge(.body), Self.tooLargeBody(limits))
            case .malformed(let what):
                (.malformed, "the response is not HTTP: \(what); check that the URL is the right one")
            }
        self.init(code, url.redacted, reason, mayHaveArrived: true)
    }

    private static func tooLargeHead(_ limits: OutboundLimits) -> String {
        "the head of the response is larger than \(limits.responseHead) bytes or \(limits.responseFields) fields; "
            + "check that the URL is the right one"
    }

    private static func tooLargeBody(_ limits: OutboundLimits) -> String {
        "the body of the response is larger than \(limits.responseBody) bytes; check that the URL is the right one"
    }

    private static func proxy(_ what: String) -> String {
        "the proxy of HTTPS_PROXY or ALL_PROXY gives no connection: \(what); fix it, or name the host in NO_PROXY"
    }

    private static func phase(_ phase: ccurl_phase, hasHead: Bool) -> Phase {
        if hasHead { return .body }
        return switch phase {
        case CCURL_PHASE_LOOKUP: .lookup
        case CCURL_PHASE_CONNECT: .connect
        case CCURL_PHASE_TLS: .tls
        default: .response
        }
    }

    private static func timeoutReason(_ phase: Phase) -> String {
        switch phase {
        case .queue, .lookup: "the name was not resolved in time; check DNS on this machine"
        case .connect:
            "no connection in time; check that the server runs, and that no firewall is in between"
        case .tls: "no TLS session in time; check that the port speaks TLS"
        case .response: "no response in time"
        case .body: "the response was not complete in time"
        }
    }

    private static func certificate(
        _ problem: ccurl_certificate,
        _ message: String,
        _ url: OutboundURL
    ) -> (Code, String) {
        switch problem {
        case CCURL_CERTIFICATE_UNTRUSTED:
            (
                .certificate(.untrusted),
                "the server's certificate was not issued by a trusted authority; "
                    + "for a private CA, configure its root as the CA bundle"
            )
        case CCURL_CERTIFICATE_EXPIRED:
            (
                .certificate(.expired),
                "the server's certificate has expired; check this machine's clock, then ask the server's operator"
            )
        case CCURL_CERTIFICATE_NOT_YET_VALID:
            (.certificate(.notYetValid), "the server's certificate is not valid yet; check this machine's clock")
        case CCURL_CERTIFICATE_WRONG_NAME:
            (
                .certificate(.wrongName),
                "the server's certificate is not for \(url.host); check the URL, and DNS on this machine"
            )
        default:
            (.certificate(.other), "the server's certificate was refused: \(message)")
        }
    }

    /// libcurl's own message. It may quote the peer, so all but printable characters are replaced.
    private static func message(of result: ccurl_result) -> String {
        let bytes = withUnsafeBytes(of: result.message) { Array($0.prefix { $0 != 0 }) }
        return bytes.isEmpty ? "no reason is known" : OutboundURL.printable(bytes)
    }
}
