package import HopProtocol

/// The state of one request between a tunnel stream and an origin connection, without I/O.
///
/// ``OriginExchange`` owns one machine, reports every event of the stream, of the origin connection and of the clock to
/// it, and carries out the action that the call returns. All calls come on the exchange's event loop.
///
/// An exchange moves through these states, each of which can also lead straight to `done`:
/// ```
/// awaitingHead ─→ connecting ─→ exchanging ─→ done
///       └→ awaitingBody ─┘ ↑ retry ┘    └→ upgraded ─→ done
/// ```
/// A request has to be admitted before it leaves `awaitingHead`: ``slotAcquired()`` and ``recorded()`` report what was
/// obtained for it, and the ``Ending`` lists what has to be given back.
package struct OriginExchangeStateMachine: Sendable {
    private enum State: Sendable {
        /// The request head has not arrived.
        case awaitingHead
        /// The head has arrived, but neither a Content-Length, nor a body byte, nor FIN: it is not known whether the
        /// request has a body.
        case awaitingBody
        /// Waiting for an origin connection.
        case connecting(Upload)
        /// The request head has been written to the origin connection.
        case exchanging(Upload, Response)
        /// The origin has answered 101: bytes are relayed in the directions that are still open.
        case upgraded(OpenDirections)
        /// The exchange has ended.
        case done
    }

    /// The request's way from the stream to the origin.
    private struct Upload: Sendable {
        enum Progress: Sendable {
            /// No byte of the body has been written to the origin.
            case headOnly
            /// A part of the body has been written.
            case partialBody(bytes: Int)
            /// The origin has the whole request.
            case complete(hadBody: Bool)
        }

        var framing: OriginRequest.Framing
        /// Whether the stream has delivered the end of the request.
        var hasEnded = false
        /// Whether this is the second connection of the request, after a stale pooled one.
        var isRetry = false
        var progress = Progress.headOnly

        var isComplete: Bool { if case .complete = progress { true } else { false } }

        var hasSentBody: Bool {
            switch progress {
            case .headOnly: false
            case .partialBody: true
            case .complete(let hadBody): hadBody
            }
        }

        mutating func append(_ count: Int) -> BodyAction {
            switch framing {
            case .none: return .discard
            case .length(let announced):
                switch progress {
                case .headOnly: return append(count, to: 0, of: announced)
                case .partialBody(let bytes): return append(count, to: bytes, of: announced)
                case .complete: return .forward(completes: false)
                }
            case .chunked:
                let isFirst = !hasSentBody
                if !isComplete { progress = .partialBody(bytes: 0) }
                return .forwardChunk(isFirst: isFirst)
            }
        }

        private mutating func append(_ count: Int, to bytes: Int, of announced: Int) -> BodyAction {
            let total = bytes &+ count
            let completes = total >= announced
            progress = completes ? .complete(hadBody: true) : .partialBody(bytes: total)
            return .forward(completes: completes)
        }

        mutating func complete() -> RequestEndAction {
            guard !isComplete else { return .none }
            let hadBody = hasSentBody
            progress = .complete(hadBody: hadBody)
            return if case .chunked = framing { .writeLastChunk(isFirst: !hadBody) } else { .completed }
        }
    }

    /// The progress of the origin's response.
    private enum Response: Sendable {
        /// The final response head has not arrived; interim heads may have.
        case awaitingHead
        /// The final response head had this status.
        case body(status: Int)
    }

    /// The directions of an upgraded connection that have not ended.
    private enum OpenDirections: Sendable {
        case both
        /// The origin has ended its side.
        case toOrigin
        /// The peer has ended its side.
        case fromOrigin
    }

    /// The resources that have been obtained for the request.
    private enum Admission: Sendable {
        case none
        /// The request counts in `max_requests`.
        case counted
        /// The request counts in `max_requests`, and the ledger holds its id.
        case recorded
    }

    private var state = State.awaitingHead
    private var admission = Admission.none

    package init() {}

    // MARK: Queries

    package var isDone: Bool { if case .done = state { true } else { false } }

    /// Whether an origin connection is wanted. At most one is being obtained at a time.
    package var isConnecting: Bool { if case .connecting = state { true } else { false } }

    /// Whether a connection is wanted for the second time: an idle one would be as likely to be stale.
    package var isRetry: Bool { if case .connecting(let upload) = state { upload.isRetry } else { false } }

    /// Whether the origin has the request head and has not sent a final response head: the time during which the
    /// request's deadline applies to the origin.
    package var isAwaitingResponseHead: Bool {
        if case .exchanging(_, .awaitingHead) = state { true } else { false }
    }

    // MARK: Admission

    /// The request was counted in `max_requests`.
    package mutating func slotAcquired() {
        guard case .none = admission else { preconditionFailure("a request is counted once") }
        admission = .counted
    }

    /// The id of the request was recorded in the ledger.
    package mutating func recorded() {
        guard case .counted = admission else { preconditionFailure("a request is counted before it is recorded") }
        admission = .recorded
    }

    // MARK: The request

    package enum HeadAction: Equatable, Sendable {
        /// Obtain an origin connection.
        case connect
        /// Wait for a short time for a body byte or FIN, then call ``deadlineReached(owesCredit:)``.
        case awaitBody
    }

    /// The request head was admitted.
    ///
    /// - Parameter framing: The framing of the body, or `nil` if the head does not determine it.
    package mutating func headAdmitted(framing: OriginRequest.Framing?) -> HeadAction {
        guard case .awaitingHead = state else { preconditionFailure("a request has one head") }
        guard let framing else {
            state = .awaitingBody
            return .awaitBody
        }
        state = .connecting(Upload(framing: framing))
        return .connect
    }

    package enum BodyAction: Equatable, Sendable {
        /// Keep the bytes until there is a connection.
        case hold
        /// Keep the bytes and obtain an origin connection.
        case holdAndConnect
        /// Drop the bytes and return their credit.
        case discard
        /// Write the bytes. With `completes` the origin then has the whole request.
        case forward(completes: Bool)
        /// Write the bytes as a chunk.
        case forwardChunk(isFirst: Bool)
        /// Write the bytes as they are, on an upgraded connection.
        case forwardRaw
    }

    /// `count` bytes of the body arrived on the stream, or were held and can now be written.
    package mutating func bodyReceived(_ count: Int) -> BodyAction {
        switch state {
        case .awaitingHead: preconditionFailure("the decoder returns the head first")
        case .awaitingBody:
            state = .connecting(Upload(framing: .chunked))
            return .holdAndConnect
        case .connecting: return .hold
        case .exchanging(var upload, let response):
            let action = upload.append(count)
            state = .exchanging(upload, response)
            return action
        case .upgraded: return .forwardRaw
        case .done: return .discard
        }
    }

    package enum RequestEndAction: Equatable, Sendable {
        case none
        /// Obtain an origin connection.
        case connect
        /// The origin has the whole request; nothing remains to be written.
        case completed
        /// Write the last chunk and the trailers; the origin then has the whole request.
        case writeLastChunk(isFirst: Bool)
        /// Half-close the upgraded connection, and end the exchange if there is an ending.
        case closeOutput(Ending?)
    }

    /// The end of the request arrived on the stream.
    ///
    /// - Parameter method: The request's method, which determines the framing of an empty body.
    package mutating func requestEnded(method: String) -> RequestEndAction {
        switch state {
        case .awaitingHead, .done: return .none
        case .awaitingBody:
            state = .connecting(Upload(framing: Self.emptyBodyFraming(of: method), hasEnded: true))
            return .connect
        case .connecting(var upload):
            upload.hasEnded = true
            state = .connecting(upload)
            return .none
        case .exchanging(var upload, let response):
            upload.hasEnded = true
            let action = upload.complete()
            state = .exchanging(upload, response)
            return action
        case .upgraded(.toOrigin): return .closeOutput(end(nil, connection: .close))
        case .upgraded:
            state = .upgraded(.fromOrigin)
            return .closeOutput(nil)
        }
    }

    /// A method that usually carries a body announces that it has none (RFC 9110 §8.6).
    private static func emptyBodyFraming(of method: String) -> OriginRequest.Framing {
        switch method {
        case "POST", "PUT", "PATCH": .length(0)
        default: .none
        }
    }

    // MARK: The origin connection

    /// The connection is open: write the head with the returned framing, then report the held body to
    /// ``bodyReceived(_:)`` and call ``heldBodyWritten()``.
    package mutating func connected() -> OriginRequest.Framing {
        guard case .connecting(let upload) = state else { preconditionFailure("no connection was asked for") }
        state = .exchanging(upload, .awaitingHead)
        return upload.framing
    }

    /// The head and the body that arrived before the connection have been written. A body without bytes, by its
    /// framing, is complete with the head.
    package mutating func heldBodyWritten() -> RequestEndAction {
        guard case .exchanging(var upload, let response) = state else { return .none }
        guard upload.hasEnded || upload.framing == .none || upload.framing == .length(0) else { return .none }
        let action = upload.complete()
        state = .exchanging(upload, response)
        return action
    }

    /// No connection could be opened.
    ///
    /// - Returns: The code to abort the exchange with, or `nil` if no connection is wanted any more. After a retry it
    ///   is ``HopCode/originAborted``, because the first connection may have carried the request to the origin.
    package func connectFailed() -> HopCode? {
        guard case .connecting(let upload) = state else { return nil }
        return upload.isRetry ? .originAborted : .originUnreachable
    }

    package enum FailureAction: Equatable, Sendable {
        case ignore
        /// Obtain a new connection and send the request once more.
        case retry
        case abort(HopCode)
    }

    /// The origin connection failed, and is of no further use.
    ///
    /// - Parameters:
    ///   - isTruncated: Whether the input ended early; otherwise it was not HTTP/1.1.
    ///   - isStale: Whether the connection came from the pool and no byte of a response has arrived, so that the origin
    ///     had probably closed it before the request.
    ///   - isIdempotent: Whether the request may be sent twice.
    package mutating func connectionFailed(isTruncated: Bool, isStale: Bool, isIdempotent: Bool) -> FailureAction {
        switch state {
        case .exchanging(let upload, .awaitingHead)
        where isStale && isTruncated && isIdempotent && !upload.isRetry && !upload.hasSentBody:
            state = .connecting(Upload(framing: upload.framing, hasEnded: upload.hasEnded, isRetry: true))
            return .retry
        case .exchanging, .upgraded: return .abort(isTruncated ? .originAborted : .originProtocol)
        case .awaitingHead, .awaitingBody, .connecting, .done: return .ignore
        }
    }

    // MARK: The response

    package enum ResponseHeadAction: Equatable, Sendable {
        case ignore
        case forward
        /// Forward the head, then call ``upgraded()``.
        case forwardAndUpgrade
        case abort(HopCode)
    }

    /// The final response head arrived.
    ///
    /// - Parameter acceptsUpgrade: Whether it is a 101 that names a protocol the request offered.
    package mutating func responseHeadReceived(status: Int, acceptsUpgrade: Bool) -> ResponseHeadAction {
        guard case .exchanging(let upload, _) = state else { return .ignore }
        state = .exchanging(upload, .body(status: status))
        guard status == 101 else { return .forward }
        return acceptsUpgrade ? .forwardAndUpgrade : .abort(.originProtocol)
    }

    package enum UpgradeAction: Equatable, Sendable {
        case ignore
        /// Relay bytes both ways.
        case relay
        /// Relay the origin's bytes and half-close the connection: the request has ended already.
        case relayAndCloseOutput
    }

    /// The 101 was forwarded.
    package mutating func upgraded() -> UpgradeAction {
        guard case .exchanging(let upload, _) = state else { return .ignore }
        state = .upgraded(upload.hasEnded ? .fromOrigin : .both)
        return upload.hasEnded ? .relayAndCloseOutput : .relay
    }

    /// The response is complete and has been forwarded.
    ///
    /// - Returns: The ending, or `nil` if the exchange has ended already. A response that is complete before the
    ///   request stops the upload.
    package mutating func responseEnded() -> Ending? {
        guard case .exchanging(let upload, _) = state else { return nil }
        return end(nil, connection: upload.isComplete ? .recycle : .close, stopsUpload: !upload.isComplete)
    }

    package enum RawEndAction: Equatable, Sendable {
        case ignore
        /// End our direction of the stream.
        case finish
        /// End our direction of the stream and the exchange.
        case finishAndEnd(Ending)
    }

    /// The origin half-closed an upgraded connection.
    package mutating func rawResponseEnded() -> RawEndAction {
        switch state {
        case .upgraded(.both):
            state = .upgraded(.toOrigin)
            return .finish
        case .upgraded(.fromOrigin): return .finishAndEnd(end(nil, connection: .close))
        default: return .ignore
        }
    }

    // MARK: Time

    package enum DeadlineAction: Equatable, Sendable {
        /// No deadline applies any more.
        case clear
        /// Give the origin the request's whole time again.
        case extend
        /// Obtain an origin connection.
        case connect
        case abort(HopCode)
    }

    /// The deadline of the current state passed.
    ///
    /// - Parameter owesCredit: Whether the origin's socket holds body bytes that it has not accepted. If it holds none
    ///   and the request is incomplete, the client is slow and not the origin; the gateway limits clients.
    package mutating func deadlineReached(owesCredit: Bool) -> DeadlineAction {
        switch state {
        case .awaitingHead: return .abort(.protocolViolation)
        case .awaitingBody:
            state = .connecting(Upload(framing: .chunked))
            return .connect
        case .connecting: return .abort(.deadline)
        case .exchanging(let upload, _): return upload.isComplete || owesCredit ? .abort(.originTimeout) : .extend
        case .upgraded, .done: return .clear
        }
    }

    // MARK: The end

    /// The resources that have to be given back when an exchange ends.
    package struct Ending: Equatable, Sendable {
        package enum Connection: Equatable, Sendable {
            /// Return it to the pool if it may serve another request.
            case recycle
            case close
            /// Close it with a reset: the request is incomplete, or the upgraded connection is cut off.
            case reset
        }

        package enum Ledger: Equatable, Sendable {
            /// The ledger does not hold the id.
            case none
            /// The id stays in the ledger for its retention time.
            case end
            /// The id is removed: the origin has provably seen nothing of the request.
            case remove
        }

        /// The reason, or `nil` if the response is complete.
        package var code: HopCode?
        /// The status of the final response head, or 0 if none arrived.
        package var status: Int
        /// The fate of the origin connection, if there is one.
        package var connection: Connection
        package var ledger: Ledger
        /// Whether the request no longer counts in `max_requests`.
        package var releasesSlot: Bool
        /// Whether the peer is to be asked to send no more of the request.
        package var stopsUpload: Bool

        package init(
            code: HopCode?,
            status: Int,
            connection: Connection,
            ledger: Ledger,
            releasesSlot: Bool,
            stopsUpload: Bool
        ) {
            self.code = code
            self.status = status
            self.connection = connection
            self.ledger = ledger
            self.releasesSlot = releasesSlot
            self.stopsUpload = stopsUpload
        }
    }

    /// The exchange was aborted, by either side.
    ///
    /// - Returns: The ending, or `nil` if the exchange has ended already.
    package mutating func abort(_ code: HopCode) -> Ending? {
        switch state {
        case .awaitingHead, .awaitingBody: end(code, connection: .close, stopsUpload: true)
        case .connecting(let upload): end(code, connection: .close, stopsUpload: !upload.hasEnded)
        case .exchanging(let upload, _):
            end(code, connection: upload.isComplete ? .close : .reset, stopsUpload: !upload.hasEnded)
        case .upgraded(.fromOrigin): end(code, connection: .reset)
        case .upgraded: end(code, connection: .reset, stopsUpload: true)
        case .done: nil
        }
    }

    private mutating func end(
        _ code: HopCode?,
        connection: Ending.Connection,
        stopsUpload: Bool = false
    ) -> Ending {
        let status: Int =
            switch state {
            case .exchanging(_, .body(let status)): status
            case .upgraded: 101
            default: 0
            }
        state = .done
        let ledger: Ending.Ledger =
            switch admission {
            case .none, .counted: .none
            case .recorded: code?.isNotStarted ?? false ? .remove : .end
            }
        let releasesSlot = if case .none = admission { false } else { true }
        admission = .none
        return Ending(
            code: code,
            status: status,
            connection: connection,
            ledger: ledger,
            releasesSlot: releasesSlot,
            stopsUpload: stopsUpload
        )
    }
}
