import HopProtocol
import NIOCore
import NIOHTTP1
import Observability

/// A response of the edge itself to input that never became an exchange, for the access log and the metrics. The
/// defaults stand for a head that could not be parsed.
struct EdgeAnswer {
    var requestID: String
    var client: String
    var method = "-"
    var host = ""
    var path = "-"
    var httpVersion = "-"
    var status: Int
    var error: ProxyError?
}

extension HTTP1Connection {
    /// Records the rejection of a request.
    ///
    /// - Parameter head: The head that was rejected, or `nil` if none could be parsed.
    func record(_ error: ProxyError, of head: HTTPRequestHead? = nil, requestID: String) {
        var answer = EdgeAnswer(
            requestID: requestID,
            client: client.address,
            status: error.status,
            error: error
        )
        if let head {
            answer.method = head.method.rawValue
            answer.host = head.headers.first(name: "host") ?? ""
            answer.path = String(head.uri.prefix { $0 != "?" })
            answer.httpVersion = "HTTP/\(head.version.major).\(head.version.minor)"
        }
        write(answer)
    }

    /// Records the response to a request that was parsed and not forwarded.
    func record(_ status: Int, _ error: ProxyError?, of request: EdgeRequest, requestID: String) {
        let answer = EdgeAnswer(
            requestID: requestID,
            client: client.address,
            method: request.method,
            host: request.host,
            path: String(request.path),
            httpVersion: request.version == .http1_0 ? "HTTP/1.0" : "HTTP/1.1",
            status: status,
            error: error
        )
        write(answer)
    }

    private func write(_ answer: EdgeAnswer) {
        if let error = answer.error { proxy.metrics.error(error) }
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
                error: answer.error?.rawValue
            )
        )
    }
}
