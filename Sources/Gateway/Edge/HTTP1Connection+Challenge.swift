import HopProtocol
import NIOCore

/// Challenges of CAs, before everything that depends on a host: a validator comes before there is a certificate, on the
/// plain port or wherever others have redirected it.
extension HTTP1Connection {
    /// Answers a request for a challenge, now or when the store has been asked. False: it is a request like any other.
    func answerChallenge(_ request: EdgeRequest, now: NIODeadline) -> Bool {
        guard let challenges = edge.httpChallenges, request.body == .none,
            request.method == "GET" || request.method == "HEAD",
            request.target.hasPrefix(HTTPChallenges.path), let token = HTTPChallenges.token(in: request.path)
        else { return false }
        switch challenges.find(token, on: loopState.loop, now: now) {
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
                // The client may have gone meanwhile.
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
        challenges.answered(answer, client: client.address)
        let id = loopState.resources.makeRequestID().description
        record(200, nil, of: request, requestID: id)
        sendOwn(
            200,
            contentType: "application/octet-stream",
            extra: "Cache-Control: no-store\r\nX-Request-Id: \(id)\r\n",
            body: answer.keyAuthorization
        )
    }
}
