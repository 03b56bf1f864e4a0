/// The state of one exchange: how far its attempt, its request and its response have come.
///
/// Think of three things that move on their own. `phase` is the response: not started, awaited, begun, or over; behind
/// a 101 it also holds whether the agent has ended its direction. `upload` is the agent's side of the request: open,
/// finished by FIN, or stopped by STOP_SENDING. ``isRequestComplete`` is the client's side of the request.
///
/// ``ProxyExchange`` owns one. It calls an input for each event of the client and of the stream, and does what the
/// returned value says. No input has a side effect of its own, so every transition can be tested without a connection.
package struct ExchangeState: Sendable {
    private enum Phase {
        /// No agent has been chosen yet.
        case starting
        /// The request was sent to an agent; there is no final response head yet.
        case awaitingHead(Attempt)
        /// The final head has been given to the client.
        case responding
        /// A 101 has been given to the client: bytes travel in both directions, and each ends by itself.
        case upgraded(isResponseComplete: Bool)
        case over
    }

    private struct Attempt {
        /// Whether the agent has sent ACCEPTED: from then on the request may have started.
        var isAccepted = false
        /// The number of 1xx heads.
        var interimHeads = 0
    }

    private enum Upload {
        case open
        /// FIN was written.
        case finished
        /// The agent does not want the rest of the body.
        case stopped
    }

    private var phase = Phase.starting
    private var upload = Upload.open
    /// Whether the client has sent the whole request; behind a 101, whether it has ended its direction.
    package private(set) var isRequestComplete: Bool
    private let isWebSocket: Bool

    /// Creates the state of an exchange without an attempt.
    package init(hasBody: Bool, isWebSocket: Bool) {
        isRequestComplete = !hasBody
        self.isWebSocket = isWebSocket
    }

    // MARK: Queries

    package var isOver: Bool { if case .over = phase { true } else { false } }
    package var isUpgraded: Bool { if case .upgraded = phase { true } else { false } }
    package var isAwaitingHead: Bool { if case .awaitingHead = phase { true } else { false } }

    /// Whether a final response head has been given to the client, so that an error page is no longer possible.
    package var hasResponded: Bool {
        switch phase {
        case .starting, .awaitingHead, .over: false
        case .responding, .upgraded: true
        }
    }

    /// Whether the agent still takes body bytes. Behind a refused upgrade there is no body.
    package var takesBody: Bool {
        switch (phase, upload) {
        case (.over, _), (_, .finished), (_, .stopped): false
        case (.responding, .open): !isWebSocket
        case (.starting, .open), (.awaitingHead, .open), (.upgraded, .open): true
        }
    }

    package var isUploadOpen: Bool { upload == .open }

    // MARK: Attempts

    /// The request is sent to an agent.
    ///
    /// - Returns: Whether FIN follows at once. For an upgrade it waits: behind a 101 it would end the client's
    ///   direction.
    package mutating func attemptStarted() -> Bool {
        phase = .awaitingHead(Attempt())
        upload = .open
        return isRequestComplete && !isWebSocket && finishUpload()
    }

    package mutating func accepted() {
        guard case .awaitingHead(var attempt) = phase else { return }
        attempt.isAccepted = true
        phase = .awaitingHead(attempt)
    }

    /// A 1xx head arrived.
    ///
    /// - Returns: Whether the number of such heads is within the limit.
    package mutating func interimHead() -> Bool {
        guard case .awaitingHead(var attempt) = phase else { return true }
        attempt.interimHeads += 1
        phase = .awaitingHead(attempt)
        return attempt.interimHeads <= EdgeLimits.interimHeads
    }

    /// Whether the attempt that failed may be followed by another one, as far as the request itself decides: one that
    /// did not start may be sent again, one that may have started only if its method is idempotent.
    package func allowsRetry(_ retry: RetryDecision.Retry, method: String) -> Bool {
        guard case .awaitingHead(let attempt) = phase else { return false }
        switch retry {
        case .never: return false
        case .always where !attempt.isAccepted: return true
        case .always, .ifIdempotent:
            switch method {
            case "GET", "HEAD", "OPTIONS", "PUT", "DELETE": return !isWebSocket
            default: return false
            }
        }
    }

    // MARK: The request

    /// The effect of the end of the client's side.
    package enum RequestEnd: Equatable, Sendable {
        case ignored
        /// FIN is written, if `finishes`, after the trailers. The response timer starts, if `startsTimer`.
        case complete(startsTimer: Bool, sendsTrailers: Bool, finishes: Bool)
        /// The client ended its direction of an upgraded connection. With both ended the exchange is concluded.
        case directionEnded(finishes: Bool, concludes: Bool)
    }

    /// The client has sent everything.
    package mutating func requestCompleted() -> RequestEnd {
        switch phase {
        case .over: return .ignored
        case .upgraded(let isResponseComplete):
            isRequestComplete = true
            return .directionEnded(finishes: finishUpload(), concludes: isResponseComplete)
        case .starting, .awaitingHead, .responding:
            guard !isRequestComplete else { return .ignored }
            isRequestComplete = true
            let isStopped = upload == .stopped
            return .complete(
                startsTimer: isAwaitingHead,
                sendsTrailers: !isStopped,
                finishes: !isStopped && !isWebSocket && finishUpload()
            )
        }
    }

    /// The agent sent STOP_SENDING.
    ///
    /// - Returns: Whether the exchange is concluded: the agent's direction of an upgraded connection had ended before.
    package mutating func uploadStopped() -> Bool {
        upload = .stopped
        if case .upgraded(true) = phase { return true }
        return false
    }

    private mutating func finishUpload() -> Bool {
        guard upload == .open else { return false }
        upload = .finished
        return true
    }

    // MARK: The response

    /// A final head was given to the client.
    ///
    /// - Returns: Whether FIN is due now: the service refused an upgrade, and no body follows the request.
    package mutating func responded(status: Int) -> Bool {
        guard status != 101 else {
            phase = .upgraded(isResponseComplete: false)
            isRequestComplete = false
            return false
        }
        phase = .responding
        return isWebSocket && finishUpload()
    }

    /// The effect of FIN from the agent.
    package enum ResponseEnd: Equatable, Sendable {
        /// The response is complete and ends the exchange. An early one resets the upload.
        case complete(resetsUpload: Bool)
        /// The agent ended its direction of an upgraded connection. With both ended the exchange is concluded.
        case directionEnded(concludes: Bool)
    }

    package mutating func responseCompleted() -> ResponseEnd {
        guard case .upgraded = phase else { return .complete(resetsUpload: upload == .open) }
        phase = .upgraded(isResponseComplete: true)
        return .directionEnded(concludes: upload != .open)
    }

    /// The exchange ends. Called once.
    package mutating func conclude() {
        precondition(!isOver, "an exchange ends once")
        phase = .over
    }
}
