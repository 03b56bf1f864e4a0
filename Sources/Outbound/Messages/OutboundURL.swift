import CCurl
import Glibc

/// A URL split into its parts by libcurl's parser, the same one that is used to connect to it.
struct OutboundURL: Equatable, Sendable {
    enum Problem: Error, Equatable {
        case malformed
        case hasCredentials
        case tooLong
    }

    /// The whole URL without its fragment.
    let text: String
    let scheme: String
    /// The host in lower case; an IPv6 address is in brackets.
    let host: String
    let port: String
    let path: String

    /// Parses a URL or a reference.
    ///
    /// - Parameters:
    ///   - base: The URL that `text` is relative to (RFC 3986 §5), or `nil` if `text` must be absolute.
    ///   - limit: The maximum number of bytes of `text`.
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

    /// The URL for logs and errors, without its query, which may hold secrets.
    var redacted: String {
        let end = text.utf8.firstIndex(of: UInt8(ascii: "?")) ?? text.endIndex
        return String(text[..<end])
    }

    var isHTTPS: Bool { scheme == "https" }

    /// Whether the host is a loopback address or `localhost`, which libcurl never resolves by DNS (RFC 6761 §6.3).
    var isLoopback: Bool {
        if host == "localhost" || host == "[::1]" { return true }
        var address = in_addr()
        return inet_pton(AF_INET, host, &address) == 1 && UInt32(bigEndian: address.s_addr) >> 24 == 127
    }

    /// A printable form of a text that is not a URL, without query, fragment and anything that may be a password.
    static func redacted(_ text: String) -> String {
        var bytes = text.utf8.prefix(2_048).prefix { $0 != UInt8(ascii: "?") && $0 != UInt8(ascii: "#") }
        if let at = bytes.lastIndex(of: UInt8(ascii: "@")) { bytes = bytes[bytes.index(after: at)...] }
        return bytes.isEmpty ? "the URL" : "\"\(printable(bytes.prefix(200)))\""
    }

    /// The bytes as text, with every byte that is not printable ASCII replaced by a question mark.
    static func printable(_ bytes: some Sequence<UInt8>) -> String {
        String(decoding: bytes.map { (0x20...0x7E).contains($0) ? $0 : UInt8(ascii: "?") }, as: UTF8.self)
    }
}
