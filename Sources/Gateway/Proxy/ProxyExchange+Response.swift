import HopProtocol
import NIOCore
import Observability
import Transport

/// From the agent to the client.
extension ProxyExchange: StreamHandler {
    func streamRead(_ bytes: ByteBuffer) {
        guard phase != .done else { return }
        decoder.feed(bytes)
        pump()
        // Only the body waits for the client; what frames it, and heads, were taken.
        stream?.consumed(decoder.takeOverhead())
    }

    func streamFinished() {
        guard phase != .done else { return }
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
            while phase != .done, let event = try decoder.next() { take(event) }
        } catch {
            aborted(by: error)
        }
    }

    private func take(_ event: ResponseDecoder.Event) {
        switch event {
        case .accepted: isAccepted = true
        case .interim(let head):
            interimHeads += 1
            guard interimHeads <= EdgeLimits.interimHeads else {
                cancelStream(.protocolViolation)
                refuse(.originProtocol)
                return
            }
            if phase == .awaitingHead { client?.sendInterim(head) }
        case .head(let head): takeHead(head)
        case .data(let bytes):
            bytesOut += bytes.readableBytes
            untaken += bytes.readableBytes
            client?.sendBody(bytes)
        case .trailers(let trailers): client?.sendTrailers(trailers)
        case .end: ended()
        }
    }

    private func takeHead(_ head: ResponseHead) {
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
        // A connection that could not turn raw is gone, and this exchange with it.
        guard phase == .awaitingHead else { return }
        phase = .responding
        status = head.status
        firstByte = .now()
        deadline = .distantFuture
        replay.drop()
        if head.status == 101 {
            isUpgraded = true
            isRequestOver = false
        } else if request.isWebSocket {
            finishUpload()
        }
    }

    /// FIN behind a complete message.
    private func ended() {
        if isUpgraded {
            isResponseOver = true
            client?.sendEnd()
            concludeUpgrade()
            return
        }
        if !isUploadOver {
            // An early response: nobody reads the rest of the body (RFC 9110 §9.3.1 leaves that to us).
            stream?.reset(code: HopCode.noError.rawValue)
        }
        conclude(nil)?.sendEnd()
    }

    /// Behind a 101 each direction ends for itself.
    func concludeUpgrade() {
        guard isUploadOver, isResponseOver, phase != .done else { return }
        _ = conclude(nil)
    }

    /// What came is no complete message.
    private func aborted(by error: HopError) {
        cancelStream(.protocolViolation)
        fail(error.code == .aborted ? .originAborted : .originProtocol)
    }

    func streamFailed(_ failure: StreamFailure) {
        guard phase != .done else { return }
        let verdict = RetryDecision(failure)
        release()
        guard phase == .awaitingHead else {
            fail(verdict.refusal)
            return
        }
        if mayRetry(verdict) {
            context.metrics.retries.increment()
            isUploadOver = false
            open(after: verdict.refusal)
        } else {
            refuse(verdict.refusal)
        }
    }

    /// Not started: any request may go elsewhere. Perhaps started, which after ACCEPTED is all that anyone can say: an
    /// idempotent one. In both cases only if its body can be sent again.
    private func mayRetry(_ verdict: RetryDecision) -> Bool {
        guard attempt < UInt64(EdgeLimits.attempts), replay.isComplete, deadline > .now() else { return false }
        switch verdict.retry {
        case .never: return false
        case .always where !isAccepted: return true
        case .always, .ifIdempotent:
            switch request.method {
            case "GET", "HEAD", "OPTIONS", "PUT", "DELETE": return !request.isWebSocket
            default: return false
            }
        }
    }

    func streamStopped(code: UInt64) {
        guard phase != .done else { return }
        // The upload ends here. The rest of the body is read and dropped, so that a client that reads its response only
        // after sending everything gets there.
        isUploadStopped = true
        isUploadOver = true
        replay.drop()
        client?.resumeReading()
        if isUpgraded { concludeUpgrade() }
    }

    func streamWritable() {
        guard phase != .done else { return }
        client?.resumeReading()
    }
}
