import HopProtocol
import NIOCore
import Observability
import Transport
import Tunnel

/// The direction from the agent to the client.
extension ProxyExchange: StreamHandler {
    func streamRead(_ bytes: ByteBuffer) {
        guard !state.isOver else { return }
        decoder.feed(bytes)
        pump()
        // Only body bytes wait for the client. Heads and framing have been consumed.
        stream?.consumed(decoder.drainOverhead())
    }

    func streamFinished() {
        guard !state.isOver else { return }
        do {
            try decoder.finish()
        } catch {
            aborted(by: error)
            return
        }
        pump()
    }

    private func pump() {
        do {
            while !state.isOver, let event = try decoder.next() { handle(event) }
        } catch {
            aborted(by: error)
        }
    }

    private func handle(_ event: ResponseDecoder.Event) {
        switch event {
        case .accepted: state.accepted()
        case .interim(let head):
            guard state.interimHead() else {
                cancelStream(.protocolViolation)
                refuse(.originProtocol)
                return
            }
            client?.sendInterim(head)
        case .head(let head): handleHead(head)
        case .data(let bytes):
            bytesOut += bytes.readableBytes
            uncredited += bytes.readableBytes
            client?.sendBody(bytes)
        case .trailers(let trailers): client?.sendTrailers(trailers)
        case .end: ended()
        }
    }

    private func handleHead(_ head: ResponseHead) {
        guard head.status != 101 || request.isWebSocket else {
            cancelStream(.protocolViolation)
            refuse(.originProtocol)
            return
        }
        do {
            try client?.sendHead(head)
        } catch {
            cancelStream(.protocolViolation)
            refuse(.originProtocol)
            return
        }
        // A connection that could not be upgraded has closed and ended this exchange.
        guard state.isAwaitingHead else { return }
        status = head.status
        firstByte = .now()
        deadline = .distantFuture
        replay.drop()
        if state.responded(status: head.status) { stream?.finish() }
    }

    /// FIN arrived behind a complete message.
    private func ended() {
        switch state.responseCompleted() {
        case .complete(let resetsUpload):
            // The rest of the body of an early response is of no use to the agent (RFC 9110 §9.3.1 leaves that to us).
            if resetsUpload { stream?.reset(.noError) }
            conclude(nil)?.sendEnd()
        case .directionEnded(let concludes):
            client?.sendEnd()
            if concludes, !state.isOver { _ = conclude(nil) }
        }
    }

    /// The response is not a complete message.
    private func aborted(by error: HopError) {
        cancelStream(.protocolViolation)
        fail(error.code == .aborted ? .originAborted : .originProtocol)
    }

    func streamFailed(_ failure: StreamFailure) {
        guard !state.isOver else { return }
        let decision = RetryDecision(failure)
        release()
        if mayRetry(decision) {
            context.metrics.retries.increment()
            open(after: decision.error)
        } else {
            fail(decision.error)
        }
    }

    private func mayRetry(_ decision: RetryDecision) -> Bool {
        attempt < UInt64(EdgeLimits.attempts) && replay.isComplete && deadline > .now()
            && state.allowsRetry(decision.retry, method: request.method)
    }

    func streamStopped(code: ApplicationErrorCode) {
        guard !state.isOver else { return }
        let concludes = state.uploadStopped()
        replay.drop()
        // The rest of the body is read and dropped: a client may read its response only after sending everything.
        client?.resumeReading()
        if concludes, !state.isOver { _ = conclude(nil) }
    }

    func streamWritable() {
        guard !state.isOver else { return }
        client?.resumeReading()
    }
}
