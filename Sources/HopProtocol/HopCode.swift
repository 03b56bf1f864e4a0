package import Tunnel

/// The reason for which a stream was reset or a tunnel closed: which side failed, and whether the request **started**.
///
/// The closed set of codes that this version knows, for exhaustive decisions. On the wire it is an
/// ``ApplicationErrorCode``: the error code of RESET_STREAM, STOP_SENDING and CONNECTION_CLOSE, and the `code` of
/// ERROR. A code that this version does not know reads as ``internalError``: the request may have started.
package enum HopCode: Sendable, CaseIterable {
    /// An orderly end.
    case noError
    /// The client went away, or the gateway gave up on its behalf.
    case cancelled
    /// The deadline of the request passed.
    case deadline
    /// The request was not accepted, and no other code gives the reason.
    case refused
    /// A limit of the agent is reached (`max_requests`, a full request ledger, buffered bytes).
    case busy
    /// The attachment is not on that replica (mesh).
    case notHere
    /// A forwarded request would be forwarded again (mesh).
    case loop
    /// The head names another run of the agent.
    case wrongRun
    /// The agent offers no such service.
    case unknownService
    /// An attempt with a higher number is already known.
    case stale
    /// A non-idempotent request with this id has run already, or is running.
    case alreadyRan
    /// No connection to the origin could be established.
    case originUnreachable
    /// The origin was connected and did not respond in time.
    case originTimeout
    /// The origin's response is not valid HTTP/1.1.
    case originProtocol
    /// The origin ended its response early.
    case originAborted
    /// The peer broke a rule of the protocol.
    case protocolViolation
    /// The peer sent more than its flow-control limits allow.
    case flowControl
    /// The peer changed the final size of a stream.
    case finalSizeError
    /// A failure of the sender, or a code that this version does not know.
    case internalError
    /// The peer did not authenticate, or its credential is no longer valid.
    case authFailed
    /// A newer attachment of the same agent took over.
    case superseded
    /// The tunnel was idle.
    case idle

    /// Creates the code that `wireCode` stands for, or ``internalError`` if this version does not know it.
    package init(_ wireCode: ApplicationErrorCode) {
        self = Self.allCases.first { $0.wireCode == wireCode } ?? .internalError
    }

    /// The code on the wire.
    package var wireCode: ApplicationErrorCode {
        switch self {
        case .noError: .noError
        case .cancelled: .cancelled
        case .deadline: .deadline
        case .refused: .refused
        case .busy: .busy
        case .notHere: .notHere
        case .loop: .loop
        case .wrongRun: .wrongRun
        case .unknownService: .unknownService
        case .stale: .stale
        case .alreadyRan: .alreadyRan
        case .originUnreachable: .originUnreachable
        case .originTimeout: .originTimeout
        case .originProtocol: .originProtocol
        case .originAborted: .originAborted
        case .protocolViolation: .protocolViolation
        case .flowControl: .flowControl
        case .finalSizeError: .finalSizeError
        case .internalError: .internalError
        case .authFailed: .authFailed
        case .superseded: .superseded
        case .idle: .idle
        }
    }

    /// The status that the HTTP client sees when no response head was sent yet. 499 is logged, never sent.
    package var status: Int {
        switch self {
        case .cancelled: 499
        case .deadline, .originTimeout: 504
        case .refused, .busy, .notHere, .loop, .wrongRun, .unknownService: 503
        case .noError, .stale, .alreadyRan, .originUnreachable, .originProtocol, .originAborted, .protocolViolation,
            .flowControl, .finalSizeError, .internalError, .authFailed, .superseded, .idle:
            502
        }
    }

    /// Whether a reset with this code proves that the origin has seen nothing of the request.
    package var isNotStarted: Bool {
        switch self {
        case .refused, .busy, .notHere, .loop, .wrongRun, .unknownService, .originUnreachable: true
        default: false
        }
    }

    /// Whether the request did not start and another attachment may handle it, irrespective of its method.
    package var mayRetryElsewhere: Bool {
        switch self {
        case .refused, .busy, .notHere, .loop, .wrongRun: true
        default: false
        }
    }

    /// The name used in logs, metrics and documents.
    package var name: String {
        switch self {
        case .noError: "NO_ERROR"
        case .cancelled: "CANCELLED"
        case .deadline: "DEADLINE"
        case .refused: "REFUSED"
        case .busy: "BUSY"
        case .notHere: "NOT_HERE"
        case .loop: "LOOP"
        case .wrongRun: "WRONG_RUN"
        case .unknownService: "UNKNOWN_SERVICE"
        case .stale: "STALE"
        case .alreadyRan: "ALREADY_RAN"
        case .originUnreachable: "ORIGIN_UNREACHABLE"
        case .originTimeout: "ORIGIN_TIMEOUT"
        case .originProtocol: "ORIGIN_PROTOCOL"
        case .originAborted: "ORIGIN_ABORTED"
        case .protocolViolation: "PROTOCOL_VIOLATION"
        case .flowControl: "FLOW_CONTROL"
        case .finalSizeError: "FINAL_SIZE_ERROR"
        case .internalError: "INTERNAL"
        case .authFailed: "AUTH_FAILED"
        case .superseded: "SUPERSEDED"
        case .idle: "IDLE"
        }
    }
}

/// The codes of requests. The codes that the transport itself uses are declared beside the type.
extension ApplicationErrorCode {
    /// DEADLINE. The deadline of the request passed.
    package static var deadline: Self { Self(rawValue: 2) }
    /// REFUSED. The request was not accepted, and no other code gives the reason.
    package static var refused: Self { Self(rawValue: 3) }
    /// NOT_HERE. The attachment is not on that replica (mesh).
    package static var notHere: Self { Self(rawValue: 5) }
    /// LOOP. A forwarded request would be forwarded again (mesh).
    package static var loop: Self { Self(rawValue: 6) }
    /// WRONG_RUN. The head names another run of the agent.
    package static var wrongRun: Self { Self(rawValue: 7) }
    /// UNKNOWN_SERVICE. The agent offers no such service.
    package static var unknownService: Self { Self(rawValue: 8) }
    /// STALE. An attempt with a higher number is already known.
    package static var stale: Self { Self(rawValue: 9) }
    /// ALREADY_RAN. A non-idempotent request with this id has run already, or is running.
    package static var alreadyRan: Self { Self(rawValue: 10) }
    /// ORIGIN_UNREACHABLE. No connection to the origin could be established.
    package static var originUnreachable: Self { Self(rawValue: 16) }
    /// ORIGIN_TIMEOUT. The origin was connected and did not respond in time.
    package static var originTimeout: Self { Self(rawValue: 17) }
    /// ORIGIN_PROTOCOL. The origin's response is not valid HTTP/1.1.
    package static var originProtocol: Self { Self(rawValue: 18) }
    /// ORIGIN_ABORTED. The origin ended its response early.
    package static var originAborted: Self { Self(rawValue: 19) }
    /// SUPERSEDED. A newer attachment of the same agent took over.
    package static var superseded: Self { Self(rawValue: 37) }
}
