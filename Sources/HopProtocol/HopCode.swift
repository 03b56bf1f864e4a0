/// Why a stream was reset or a tunnel closed: who failed, and whether the request **started**.
///
/// On the wire it is the error code of RESET_STREAM, STOP_SENDING and CONNECTION_CLOSE and the `code` of ERROR. A code
/// that this version does not know reads as ``internal``: the request may have started.
package enum HopCode: UInt64, Sendable, CaseIterable {
    case noError = 0
    /// The client went away, or the gateway gave up on its behalf.
    case cancelled = 1
    /// The deadline of the request passed.
    case deadline = 2
    /// Not taken, without a better reason.
    case refused = 3
    /// A limit of the agent is reached (`max_requests`, a full request ledger, buffered bytes).
    case busy = 4
    /// The attachment is not on that replica (mesh).
    case notHere = 5
    /// A forwarded request would be forwarded again (mesh).
    case loop = 6
    /// The head names another run of the agent.
    case wrongRun = 7
    /// The agent offers no such service.
    case unknownService = 8
    /// An attempt with a higher number is already known.
    case stale = 9
    /// A non-idempotent request with this id already ran (or runs).
    case alreadyRan = 10
    /// No connection to the origin.
    case originUnreachable = 16
    /// The origin was connected and did not answer in time.
    case originTimeout = 17
    /// The origin's answer is not HTTP/1.1.
    case originProtocol = 18
    /// The origin ended its answer early.
    case originAborted = 19
    case protocolViolation = 32
    case flowControl = 33
    case finalSizeError = 34
    case `internal` = 35
    case authFailed = 36
    case superseded = 37
    case idle = 38

    /// Reads a code from the wire: unknown is ``internal``.
    package init(wire: UInt64) {
        self = HopCode(rawValue: wire) ?? .internal
    }

    /// The status that the HTTP client sees when no response head was sent yet. 499 is logged, never sent.
    package var status: Int {
        switch self {
        case .cancelled: 499
        case .deadline, .originTimeout: 504
        case .refused, .busy, .notHere, .loop, .wrongRun, .unknownService: 503
        case .noError, .stale, .alreadyRan, .originUnreachable, .originProtocol, .originAborted, .protocolViolation,
            .flowControl, .finalSizeError, .internal, .authFailed, .superseded, .idle:
            502
        }
    }

    /// A reset with this code proves that the origin has seen nothing of the request.
    package var isNotStarted: Bool {
        switch self {
        case .refused, .busy, .notHere, .loop, .wrongRun, .unknownService, .originUnreachable: true
        default: false
        }
    }

    /// The request did not start and another attachment may take it, whatever its method.
    package var mayRetryElsewhere: Bool {
        switch self {
        case .refused, .busy, .notHere, .loop, .wrongRun: true
        default: false
        }
    }

    /// The word used in logs, metrics and documents.
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
        case .internal: "INTERNAL"
        case .authFailed: "AUTH_FAILED"
        case .superseded: "SUPERSEDED"
        case .idle: "IDLE"
        }
    }
}
