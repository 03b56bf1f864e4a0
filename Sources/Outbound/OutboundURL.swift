internal import CCurl
internal import Glibc

/// A URL taken apart by the same parser that later connects to it.
struct OutboundURL: Equatable, Sendable {
    enum Problem: Error, Equatable {
        case malformed
        case hasCredentials
        case tooLong
    }

    /// Without fragment.
    let text: String
    let scheme: String
    /// In lower case; an IPv6 address in brackets.
    let host: String
    let port: String
    let path: String

    /// - Parameter base: what `text` is relative to (RFC 3986 §5); nil: it is absolute.
    init(_ text: String, relativeTo base: OutboundURL? = nil, limit: Int) throws(Problem) {
        guard text.utf8.count <= limit else { throw .tooLong }
        guard !text.isEmpty, text.utf8.allSatisfy({ (0x21...0x7E).contains($0) }) else { throw .malformed }
        var parts = ccurl_url()
        defer { ccurl_url_clear(&parts) }
        switch ccurl_url_parse(base?.text, text, &parts) {
        case CCURL_URL_OK: break
        case CCURL_URL_HAS_CREDENTIALS: throw .hasCredentials
        default: throw .malformed
        }
        self.text = String(cString: parts.text)
        scheme = String(cString: parts.scheme)
        host = String(cString: parts.host)
        port = String(cString: parts.port)
        path = String(cString: parts.path)
    }

    var origin: String { "\(scheme)://\(host):\(port)" }

    /// For logs and errors: a query may hold secrets.
    var shown: String {
        let end = text.utf8.firstIndex(of: UInt8(ascii: "?")) ?? text.endIndex
        return String(text[..<end])
    }

    var isHTTPS: Bool { scheme == "https" }

    /// An address of this machine's loopback interface, or `localhost`, which libcurl never looks up (RFC 6761 §6.3).
    var isLoopback: Bool {
        if host == "localhost" || host == "[::1]" { return true }
        var address = in_addr()
        return inet_pton(AF_INET, host, &address) == 1 && UInt32(bigEndian: address.s_addr) >> 24 == 127
    }

    /// Something to show of a text that is no URL: without query, fragment, and what may be a password.
    static func shown(_ text: String) -> String {
        var bytes = text.utf8.prefix(2_048).prefix { $0 != UInt8(ascii: "?") && $0 != UInt8(ascii: "#") }
        if let at = bytes.lastIndex(of: UInt8(ascii: "@")) { bytes = bytes[bytes.index(after: at)...] }
        return bytes.isEmpty ? "the URL" : "\"\(plain(bytes.prefix(200)))\""
    }

    /// Printable ASCII; anything else becomes a question mark.
    static func plain(_ bytes: some Sequence<UInt8>) -> String {
        String(decoding: bytes.map { (0x20...0x7E).contains($0) ? $0 : UInt8(ascii: "?") }, as: UTF8.self)
    }
}
