import HopProtocol
import NIOCore

/// HTTP-01 challenges, answered before everything that depends on the host: a validator comes before there is a
/// certificate, on the plain port or wherever another server has redirected it.
extension HTTP1Connection {
    /// Responds to a request for a challenge, now or once the store has been read.
    ///
    /// - Returns: Whether the request is one for a challenge of this cluster, or may be. If not, it is to be forwarded.
    func answerChallenge(_ request: EdgeRequest, now: NIODeadline) -> Bool {
        guard let challenges = edge.httpChallenges, request.body == .none,
            request.method == "GET" || request.method == "HEAD",
            request.target.hasPrefix(HTTPChallenges.path), let token = HTTPChallenges.token(in: request.path)
        else { return false }
        switch challenges.lookUp(token, on: loopState.loop, now: now) {
        case .known(.answer(let answer)): sendChallenge(answer, request, challenges)
        case .known(.unknown):
            challenges.count(.unknown)
            return false
        case .busy:
            challenges.count(.busy)
            let id = loopState.resources.makeRequestID().description
            record(ProxyError.shedding.status, .shedding, of: request, requestID: id)
            sendError(.shedding, requestID: id)
        case .pending(let future):
            future.assumeIsolated().whenSuccess { outcome in
                // The client may have disconnected meanwhile.
                guard self.phase == .exchanging else { return }
                switch outcome {
                case .answer(let answer): self.sendChallenge(answer, request, challenges)
                case .unknown:
                    challenges.count(.unknown)
                    self.forward(request, now: .now())
                }
            }
        }
        return true
    }

    private func sendChallenge(
        _ answer: ChallengeTable.Answer,
        _ request: EdgeRequest,
        _ challenges: HTTPChallenges
    ) {
        challenges.recordAnswer(answer, client: client.address)
        let id = loopState.resources.makeRequestID().description
        record(200, nil, of: request, requestID: id)
        sendComplete(
            200,
            contentType: "application/octet-stream",
            extra: "Cache-Control: no-store\r\nX-Request-Id: \(id)\r\n",
            body: answer.keyAuthorization
        )
    }
}
