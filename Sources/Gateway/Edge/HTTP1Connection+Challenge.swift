import ACME
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
        let address = try? SocketAddress(ipAddress: client.address, port: 0)
        switch challenges.lookUp(token, for: address, on: loopState.loop, now: now) {
        case .known(let answer?): sendChallenge(answer, request, challenges)
        case .known(nil):
            challenges.count(.unknown)
            return false
        case .pending(let future):
            future.assumeIsolated().whenSuccess { answer in
                // The client may have disconnected meanwhile.
                guard self.phase == .exchanging else { return }
                if let answer { return self.sendChallenge(answer, request, challenges) }
                challenges.count(.unknown)
                self.forward(request, now: .now())
            }
        }
        return true
    }

    private func sendChallenge(
        _ answer: ChallengeTask,
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
