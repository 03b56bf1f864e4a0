/// The body of a response of the edge itself. It always holds the request id, so that a report can be traced.
package enum ErrorPage {
    package enum Format: Equatable, Sendable {
        case text
        case json
        case html

        /// Creates the format from an Accept field (RFC 9110 §12.5.1): the first supported type that it names. Weights
        /// are ignored.
        package init(accept: String) {
            self = .text
            for part in accept.split(separator: ",") {
                let type = part.prefix { $0 != ";" }.filter { $0 != " " && $0 != "\t" }.lowercased()
                switch type {
                case "text/html", "application/xhtml+xml": self = .html
                case "application/json", "application/problem+json": self = .json
                case "text/plain": self = .text
                default: continue
                }
                return
            }
        }

        package var contentType: String {
            switch self {
            case .text: "text/plain; charset=utf-8"
            case .json: "application/json"
            case .html: "text/html; charset=utf-8"
            }
        }
    }

    /// Returns the page. No text in it comes from the client, so nothing needs escaping.
    package static func body(_ error: ProxyError, requestID: String, format: Format) -> String {
        let status = error.status
        let reason = StatusText.reason(status)
        switch format {
        case .text:
            return "\(status) \(reason)\n\(error.explanation)\nrequest id: \(requestID)\n"
        case .json:
            return """
                {"status":\(status),"error":"\(error.rawValue)","message":"\(error.explanation)",\
                "request_id":"\(requestID)"}

                """
        case .html:
            return """
                <!doctype html>
                <html lang="en"><head><meta charset="utf-8"><title>\(status) \(reason)</title>
                <meta name="viewport" content="width=device-width"></head>
                <body style="font-family:system-ui,sans-serif;max-width:36em;margin:4em auto;padding:0 1em">
                <h1>\(status) \(reason)</h1><p>\(error.explanation)</p>
                <p><small>request id <code>\(requestID)</code></small></p></body></html>

                """
        }
    }
}
