import HopProtocol
import NIOCore
import NIOHTTP1
import Observability

/// For the access line and the metrics: an answer of the edge itself to what never became an exchange. The defaults
/// stand for a head that was not understood.
struct EdgeAnswer {
    var requestID: String
    var client: String
    var method = "-"
    var host = ""
    var path = "-"
    var httpVersion = "-"
    var status: Int
    var refusal: ProxyError?
}

extension HTTP1Connection {
    /// A head that was refused; nil: none was understood.
    func record(_ refusal: ProxyError, of head: HTTPRequestHead? = nil, requestID: String) {
        var answer = EdgeAnswer(
            requestID: requestID,
            client: client.address,
            status: refusal.status,
            refusal: refusal
        )
        if let head {
            answer.method = head.method.rawValue
            answer.host = head.headers.first(name: "host") ?? ""
            answer.path = String(head.uri.prefix { $0 != "?" })
            answer.httpVersion = "HTTP/\(head.version.major).\(head.version.minor)"
        }
        write(answer)
    }

    /// A request that was understood and not forwarded.
    func record(_ status: Int, _ refusal: ProxyError?, of request: EdgeRequest, requestID: String) {
        let answer = EdgeAnswer(
            requestID: requestID,
            client: client.address,
            method: request.method,
            host: request.host,
            path: String(request.path),
            httpVersion: request.version == .http1_0 ? "HTTP/1.0" : "HTTP/1.1",
            status: status,
            refusal: refusal
        )
        write(answer)
    }

    private func write(_ answer: EdgeAnswer) {
        if let error = answer.refusal { proxy.metrics.error(error) }
        let isHTTP10 = answer.httpVersion == "HTTP/1.0"
        loopState.resources.count(
            answer.status,
            method: answer.method,
            isHTTP10: isHTTP10,
            in: proxy.metrics.registry
        )
        proxy.accessLog?.write(
            AccessRecord(
                requestID: answer.requestID,
                client: answer.client,
                method: answer.method,
                host: answer.host,
                path: answer.path,
                httpVersion: answer.httpVersion,
                status: answer.status,
                bytesIn: 0,
                bytesOut: 0,
                duration: .zero,
                error: answer.refusal?.rawValue
            )
        )
    }
}
