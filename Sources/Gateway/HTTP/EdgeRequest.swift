package import HopProtocol
package import NIOHTTP1

/// A request that the edge takes: its head was checked, what frames it is known, nothing was sent yet.
package struct EdgeRequest: Sendable {
    package var method: String
    /// Path and query in origin form, the original bytes; `*` for OPTIONS.
    package var target: String
    /// The host for look-ups: lower case, no port.
    package var host: String
    /// The authority as the client wrote it.
    package var authority: String
    package var version: HTTPVersion
    /// The original fields; ``forwardedFields(_:)`` leaves out what ends here.
    package var headers: HTTPHeaders
    /// Bit n: field n is not forwarded.
    var dropped: DropMask
    package var body: Body
    package var isWebSocket: Bool
    /// The HTTP/1 decoder may stop behind this request, whether or not we take the upgrade. Any Upgrade field counts:
    /// the decoder takes Proxy-Connection for Connection.
    package var stopsDecoder: Bool
    /// The client wants the connection to stay (RFC 9112 §9.3).
    package var keepsAlive: Bool
    package var accept: ErrorPage.Format

    package enum Body: Equatable, Sendable {
        case none
        case length(Int)
        case chunked
    }

    package var isHead: Bool { method == "HEAD" }

    /// The part of the target that routes are matched on.
    package var path: Substring {
        target.utf8.firstIndex(of: UInt8(ascii: "?")).map { target[..<$0] } ?? target[...]
    }
}

/// One bit for each field of a head, 128 at most (the decoder's bound).
struct DropMask: Equatable, Sendable {
    private var low: UInt64 = 0
    private var high: UInt64 = 0

    subscript(index: Int) -> Bool {
        get { index < 64 ? low & (1 << UInt64(index)) != 0 : high & (1 << UInt64(index - 64)) != 0 }
        set {
            let mask: UInt64 = 1 << UInt64(index & 63)
            switch (index < 64, newValue) {
            case (true, true): low |= mask
            case (true, false): low &= ~mask
            case (false, true): high |= mask
            case (false, false): high &= ~mask
            }
        }
    }
}

/// What the edge says of a client, made once a connection.
package struct ClientIdentity: Sendable {
    /// The address without a port: `192.0.2.1`, `2001:db8::1`.
    package let address: String
    /// As the `for` parameter of Forwarded (RFC 7239 §6).
    package let forwardedFor: String

    package init(address: String) {
        self.address = address
        self.forwardedFor = address.utf8.contains(UInt8(ascii: ":")) ? "\"[\(address)]\"" : address
    }
}

extension EdgeRequest {
    /// The fields for the agent: hop-by-hop fields, those that Connection names and what the client says of itself are
    /// left out; what the edge knows of the client is added.
    package func forwardedFields(client: ClientIdentity, scheme: String, requestID: String) -> FieldSection {
        var section = FieldSection()
        section.reserveCapacity(768)
        var index = 0
        for (name, value) in headers {
            if !dropped[index] { section.append(name: name, value: value) }
            index += 1
        }
        if isWebSocket { section.append(name: "Upgrade", value: "websocket") }
        section.append(name: "X-Request-Id", value: requestID)
        section.append(name: "X-Real-IP", value: client.address)
        section.append(name: "X-Forwarded-For", value: client.address)
        section.append(name: "X-Forwarded-Proto", value: scheme)
        section.append(name: "X-Forwarded-Host", value: authority)
        section.append(name: "Forwarded", value: "for=\(client.forwardedFor);host=\(quotedAuthority);proto=\(scheme)")
        return section
    }

    /// RFC 7239 §4: a value with a colon is no token.
    private var quotedAuthority: String {
        authority.utf8.contains { $0 == UInt8(ascii: ":") || $0 == UInt8(ascii: "[") } ? "\"\(authority)\"" : authority
    }
}
