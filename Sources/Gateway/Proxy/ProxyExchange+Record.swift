import HopProtocol
import NIOCore
import NIOHTTP1
import Observability

extension ProxyExchange {
    /// Counts the exchange and writes its line of the access log. Called once, when it has ended.
    ///
    /// - Parameter error: The reason why the response is not the service's own, or `nil`.
    func record(_ error: ProxyError?) {
        let now = NIODeadline.now()
        let metrics = context.metrics
        let duration = now - started
        let timeToFirstByte = firstByte.map { $0 - started }
        metrics.inFlight.decrement()
        metrics.duration.observe(duration)
        if let timeToFirstByte { metrics.timeToFirstByte.observe(timeToFirstByte) }
        if bytesIn > 0 { metrics.requestBytes.increment(by: bytesIn) }
        if bytesOut > 0 { metrics.responseBytes.increment(by: bytesOut) }
        if let error { metrics.error(error) }
        let isHTTP10 = request.version == .http1_0
        resources.count(status, method: request.method, isHTTP10: isHTTP10, in: metrics.registry)
        guard let accessLog = context.accessLog else { return }
        accessLog.write(
            AccessRecord(
                requestID: idText,
                client: identity.address,
                agent: agent ?? match?.target.agent,
                service: service ?? match?.target.service,
                route: match?.target.label,
                method: request.method,
                host: request.host,
                path: String(request.path),
                httpVersion: isHTTP10 ? "HTTP/1.0" : "HTTP/1.1",
                status: status,
                bytesIn: bytesIn,
                bytesOut: bytesOut,
                duration: duration,
                timeToFirstByte: timeToFirstByte,
                error: error?.rawValue
            )
        )
    }
}
