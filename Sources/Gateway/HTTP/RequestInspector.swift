import Credentials
import HopProtocol
package import NIOHTTP1

/// The check of a parsed head against RFC 9110 §5, §7.2, §7.6 and RFC 9112 §3, §6.
///
/// The decoder is lenient in places where two readings are possible. Everything that frames or routes the message is
/// therefore checked again here, and rejected rather than repaired.
package enum RequestInspector {
    package static func inspect(_ head: HTTPRequestHead) -> Result<EdgeRequest, ProxyError> {
        do throws(ProxyError) {
            return .success(try check(head))
        } catch {
            return .failure(error)
        }
    }

    private static func check(_ head: HTTPRequestHead) throws(ProxyError) -> EdgeRequest {
        guard head.version == .http1_1 || head.version == .http1_0 else { throw .badVersion }
        let method = head.method.rawValue
        guard method != "CONNECT", method != "TRACE" else { throw .badMethod }

        var fields = Fields()
        var index = 0
        for (name, value) in head.headers {
            try fields.add(name, value, at: index)
            index += 1
        }
        if fields.connectionNamesFields { fields.dropNamed(in: head.headers) }

        let (target, absoluteAuthority) = try split(target: head.uri, method: method)
        guard fields.hostCount == 1, let written = fields.host, let parsedHost = RequestAuthority.parse(written) else {
            throw .badHost
        }
        var authority = written
        var name = parsedHost
        if let absoluteAuthority {
            // RFC 9112 §3.2.2: the authority of an absolute-form target replaces Host.
            guard let parsed = RequestAuthority.parse(absoluteAuthority) else { throw .badHost }
            authority = absoluteAuthority
            name = parsed
        }
        let body = try fields.body(version: head.version)
        let keepsAlive = fields.closes ? false : (head.version == .http1_1 || fields.keepsAlive)
        let isWebSocket = try fields.webSocket(method: method, version: head.version, body: body)
        return EdgeRequest(
            method: method,
            target: target,
            host: name.host,
            authority: authority,
            version: head.version,
            headers: head.headers,
            dropped: fields.dropped,
            body: body,
            isWebSocket: isWebSocket,
            stopsDecoder: fields.hasUpgrade,
            keepsAlive: keepsAlive,
            accept: fields.accept
        )
    }

    /// Origin form, absolute form, or `*` (RFC 9112 §3.2).
    private static func split(target: String, method: String) throws(ProxyError) -> (String, authority: String?) {
        guard target.utf8.count <= EdgeLimits.requestTarget else { throw .targetTooLong }
        for byte in target.utf8 where byte <= 0x20 || byte == 0x7F || byte == UInt8(ascii: "#") { throw .badTarget }
        // The decoder has replaced bytes that are not UTF-8: these are not the client's bytes any more.
        guard !target.unicodeScalars.contains("\u{FFFD}") else { throw .badTarget }
        if target.utf8.first == UInt8(ascii: "/") { return (target, nil) }
        if target == "*" {
            guard method == "OPTIONS" else { throw .badTarget }
            return (target, nil)
        }
        let lowered = target.prefix(8).lowercased()
        guard lowered.hasPrefix("http://") || lowered.hasPrefix("https://") else { throw .badTarget }
        let rest = target.dropFirst(lowered.hasPrefix("https://") ? 8 : 7)
        let end = rest.utf8.firstIndex { $0 == UInt8(ascii: "/") || $0 == UInt8(ascii: "?") } ?? rest.endIndex
        let path = rest[end...]
        if path.isEmpty { return (method == "OPTIONS" ? "*" : "/", String(rest[..<end])) }
        return (path.utf8.first == UInt8(ascii: "/") ? String(path) : "/" + path, String(rest[..<end]))
    }
}

extension RequestInspector {
    /// The findings of one pass over the fields.
    private struct Fields {
        var dropped = DropMask()
        var hostCount = 0
        var host: String?
        private var contentLength: Int?
        private var hasContentLength = false
        private var transferEncodings = 0
        private var isChunked = false
        var closes = false
        var keepsAlive = false
        var asksForUpgrade = false
        var connectionNamesFields = false
        var hasUpgrade = false
        private var upgradeIsWebSocket = false
        private var webSocketKeys = 0
        private var webSocketVersionIs13 = false
        var accept = ErrorPage.Format.text

        mutating func add(_ name: String, _ value: String, at index: Int) throws(ProxyError) {
            guard index < EdgeLimits.headerFields else { throw .headTooLarge }
            var value = value
            guard value.withUTF8({ ASCII.isFieldValue(UnsafeRawBufferPointer($0)) }) else { throw .malformed }
            let classified = FieldKind.classify(name)
            guard !classified.isAlias else {
                dropped[index] = true
                return
            }
            switch classified.kind {
            case .other, .date, .credentials, .trailer, .expect: break
            case .host:
                hostCount += 1
                host = value
                dropped[index] = true
            case .contentLength:
                guard !hasContentLength,
                    let length = value.withUTF8({ ASCII.decimal(UnsafeRawBufferPointer($0)) })
                else { throw .badFraming }
                hasContentLength = true
                contentLength = length
            case .transferEncoding:
                transferEncodings += 1
                isChunked = value.utf8.count == 7 && value.lowercased() == "chunked"
                dropped[index] = true
            case .connection:
                addConnection(value)
                dropped[index] = true
            case .hopByHop, .ours: dropped[index] = true
            case .upgrade:
                upgradeIsWebSocket = !hasUpgrade && value.lowercased() == "websocket"
                hasUpgrade = true
                dropped[index] = true
            case .te:
                // `trailers` alone is end to end in effect: gRPC needs it.
                dropped[index] = value.lowercased() != "trailers"
            case .accept: accept = ErrorPage.Format(accept: value)
            case .webSocketKey: webSocketKeys += 1
            case .webSocketVersion: webSocketVersionIs13 = value == "13"
            }
        }

        private mutating func addConnection(_ value: String) {
            switch value {
            case "keep-alive", "Keep-Alive": keepsAlive = true
            case "close": closes = true
            case "Upgrade", "upgrade": asksForUpgrade = true
            default:
                var value = value
                value.withUTF8 { bytes in
                    for option in ConnectionOptions(UnsafeRawBufferPointer(bytes)) {
                        if ASCII.equalIgnoringCase(option, "keep-alive") {
                            keepsAlive = true
                        } else if ASCII.equalIgnoringCase(option, "close") {
                            closes = true
                        } else if ASCII.equalIgnoringCase(option, "upgrade") {
                            asksForUpgrade = true
                        } else {
                            connectionNamesFields = true
                        }
                    }
                }
            }
        }

        /// Drops the fields that Connection names (RFC 9110 §7.6.1), except those that frame or route the message, and
        /// TE, which is always named (§10.1.4) and judged by its value.
        mutating func dropNamed(in headers: HTTPHeaders) {
            var named: Set<String> = []
            for (name, value) in headers where FieldKind.classify(name).kind == .connection {
                var value = value
                value.withUTF8 { bytes in
                    for option in ConnectionOptions(UnsafeRawBufferPointer(bytes)) {
                        named.insert(String(decoding: option, as: UTF8.self).lowercased())
                    }
                }
            }
            var index = 0
            for (name, _) in headers {
                let kind = FieldKind.classify(name).kind
                switch kind {
                case .contentLength, .host, .te: break
                default: if named.contains(name.lowercased()) { dropped[index] = true }
                }
                index += 1
            }
        }

        func body(version: HTTPVersion) throws(ProxyError) -> EdgeRequest.Body {
            if transferEncodings > 0 {
                guard version == .http1_1, !hasContentLength else { throw .badFraming }
                guard transferEncodings == 1, isChunked else { throw .unknownTransferCoding }
                return .chunked
            }
            guard let contentLength, contentLength > 0 else { return .none }
            return .length(contentLength)
        }

        /// Returns whether the request asks for a WebSocket (RFC 6455 §4.2.1). Any other upgrade is ignored, as RFC
        /// 9110 §7.8 allows.
        func webSocket(method: String, version: HTTPVersion, body: EdgeRequest.Body) throws(ProxyError) -> Bool {
            guard hasUpgrade, asksForUpgrade, upgradeIsWebSocket else { return false }
            guard method == "GET", version == .http1_1, body == .none, webSocketKeys == 1, webSocketVersionIs13 else {
                throw .badUpgrade
            }
            return true
        }
    }
}

extension ProxyError: Error {}
