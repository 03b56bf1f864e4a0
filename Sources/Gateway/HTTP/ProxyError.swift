/// The reason why the edge responds to a request itself instead of forwarding it, or ends one that it forwarded.
///
/// The raw value is the `error` of the access log and the `reason` of `http_request_errors_total`.
package enum ProxyError: String, CaseIterable, Sendable {
    // The request is invalid or not supported.
    case malformed
    case badFraming = "bad_framing"
    case badHost = "bad_host"
    case badTarget = "bad_target"
    case ambiguousPath = "ambiguous_path"
    case headTooLarge = "head_too_large"
    case targetTooLong = "target_too_long"
    case badVersion = "bad_version"
    case badMethod = "bad_method"
    case unknownTransferCoding = "unknown_transfer_coding"
    case badUpgrade = "bad_upgrade"
    case headerTimeout = "header_timeout"
    case bodyTimeout = "body_timeout"
    // No agent can be chosen.
    case unknownHost = "unknown_host"
    case noAgent = "no_agent"
    case busy
    case notAllowed = "not_allowed"
    case shedding
    case draining
    // The request failed at an agent or on the way there.
    case deadline
    case refusedByAgent = "refused"
    case unknownService = "unknown_service"
    case originUnreachable = "origin_unreachable"
    case originTimeout = "origin_timeout"
    case originProtocol = "origin_protocol"
    case originAborted = "origin_aborted"
    case alreadyRan = "already_ran"
    case sessionLost = "session_lost"
    case internalError = "internal"
    /// The client disconnected. 499 is logged, nothing is sent.
    case clientGone = "client_gone"
    /// The client did not read the response in time.
    case clientStalled = "client_stalled"

    /// The status that is sent (or only logged, 499).
    package var status: Int {
        switch self {
        case .malformed, .badFraming, .badHost, .badTarget, .ambiguousPath, .badUpgrade: 400
        case .headTooLarge: 431
        case .targetTooLong: 414
        case .badVersion: 505
        case .badMethod: 405
        case .unknownTransferCoding: 501
        case .headerTimeout, .bodyTimeout: 408
        case .unknownHost: 404
        case .noAgent, .busy, .notAllowed, .shedding, .draining, .refusedByAgent, .unknownService: 503
        case .deadline, .originTimeout: 504
        case .originUnreachable, .originProtocol, .originAborted, .alreadyRan, .sessionLost, .internalError: 502
        case .clientGone, .clientStalled: 499
        }
    }

    /// A sentence for the person who sees the error page. It reveals nothing about the inside of the gateway.
    package var explanation: String {
        switch self {
        case .malformed: "The request is not valid HTTP."
        case .badFraming: "The length of the request's body is stated in a way that cannot be trusted."
        case .badHost: "The request must name exactly one valid host."
        case .badTarget: "The request's target is not valid."
        case .ambiguousPath: "The path is ambiguous."
        case .headTooLarge: "The request's header is too large."
        case .targetTooLong: "The request's target is too long."
        case .badVersion: "This version of HTTP is not supported here."
        case .badMethod: "This method is not supported here."
        case .unknownTransferCoding: "This transfer coding is not supported here."
        case .badUpgrade: "The request to upgrade the connection is not valid."
        case .headerTimeout: "The request's header did not arrive in time."
        case .bodyTimeout: "The request's body did not arrive in time."
        case .unknownHost: "There is no such site here."
        case .noAgent: "The service is not connected at the moment."
        case .busy: "The service has reached its limit of concurrent requests."
        case .notAllowed, .unknownService: "The service is not available here."
        case .shedding: "The server is overloaded."
        case .draining: "The server is about to stop."
        case .deadline, .originTimeout: "The service did not answer in time."
        case .refusedByAgent: "The service did not accept the request."
        case .originUnreachable: "The service cannot be reached."
        case .originProtocol: "The service's response is not valid HTTP."
        case .originAborted: "The service aborted its response."
        case .alreadyRan: "The request was already run once and is not run again."
        case .sessionLost: "The connection to the service was lost while the request was under way."
        case .internalError: "Something went wrong inside the gateway."
        case .clientGone, .clientStalled: "The client went away."
        }
    }

    /// The value of `Retry-After` in seconds, or `nil` if trying again does not help.
    package var retryAfter: Int? {
        switch self {
        case .busy, .noAgent, .refusedByAgent, .shedding, .draining: 1
        case .notAllowed, .unknownService: 10
        default: nil
        }
    }

    /// Whether the connection is closed, since the byte stream of HTTP/1 cannot be trusted any more.
    package var closesConnection: Bool {
        switch self {
        case .malformed, .badFraming, .badTarget, .headTooLarge, .targetTooLong, .badVersion, .unknownTransferCoding,
            .headerTimeout, .bodyTimeout, .shedding, .draining, .badHost, .badMethod:
            true
        default: false
        }
    }
}
