import HopProtocol
import NIOCore
import NIOHTTP1
import Synchronization

/// Plain HTTP: requests for known hosts are redirected to HTTPS, all others get 404.
extension HTTP1Connection {
    func redirect(_ request: EdgeRequest, now: NIODeadline) {
        let id = loopState.resources.makeRequestID().description
        guard proxy.router.knows(host: request.host) else {
            record(ProxyError.unknownHost.status, .unknownHost, of: request, requestID: id)
            sendError(.unknownHost, requestID: id)
            return
        }
        // A method with a body must stay what it is (RFC 9110 §15.4.2, §15.4.9).
        let status = request.method == "GET" || request.method == "HEAD" ? 301 : 308
        let port = edge.httpsPort.load(ordering: .relaxed)
        let authority = port == 443 ? request.host : "\(request.host):\(port)"
        let target = request.target == "*" ? "/" : request.target
        keepsAlive = keepsAlive && requestReceived
        record(status, nil, of: request, requestID: id)
        sendComplete(
            status,
            contentType: "text/plain; charset=utf-8",
            extra: "Location: https://\(authority)\(target)\r\nX-Request-Id: \(id)\r\n",
            body: "This site speaks HTTPS.\n"
        )
    }
}
