package import HopProtocol
package import NIOHTTP1

/// A request that the edge accepts: its head has been checked and its framing is known.
package struct EdgeRequest: Sendable {
    package var method: String
    /// Path and query in origin form, the original bytes; `*` for OPTIONS.
    package var target: String
    /// The host for matching: lower case, without port.
    package var host: String
    /// The authority as the client wrote it.
    package var authority: String
    package var version: HTTPVersion
    /// The original fields, of which ``forwardedFields(client:scheme:requestID:)`` leaves out the hop-by-hop ones.
    package var headers: HTTPHeaders
    /// The fields that are not forwarded, by index.
    var dropped: DropMask
    package var body: Body
    package var isWebSocket: Bool
    /// Whether the HTTP/1 decoder may stop behind this request, even if the upgrade is not accepted. Any Upgrade field
    /// counts: the decoder treats Proxy-Connection as Connection.
    package var stopsDecoder: Bool
    /// Whether the client wants a persistent connection (RFC 9112 §9.3).
    package var keepsAlive: Bool
    package var accept: ErrorPage.Format

    package enum Body: Equatable, Sendable {
        case none
        case length(Int)
        case chunked
    }

    package var isHead: Bool { method == "HEAD" }

    /// The part of the target that is matched against routes.
    package var path: Substring {
        target.utf8.firstIndex(of: UInt8(ascii: "?")).map { target[..<$0] } ?? target[...]
    }
}

/// A set of field indices of a head, below 128 (the decoder's limit).
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

/// The address of a client as forwarded fields state it. Created once per connection.
package struct ClientIdentity: Sendable {
    /// The address without a port: `192.0.2.1`, `2001:db8::1`.
    package let address: String
    /// The address in the form of the `for` parameter of Forwarded (RFC 7239 §6).
    package let forwardedFor: String

    package init(address: String) {
        self.address = address
        self.forwardedFor = address.utf8.contains(UInt8(ascii: ":")) ? "\"[\(address)]\"" : address
    }
}

extension EdgeRequest {
    /// Returns the fields for the agent: without hop-by-hop fields, those that Connection names, and the client's own
    /// claims about its address; with the address that the edge sees.
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

    /// The authority as a value of Forwarded: quoted if it holds a character that a token cannot have (RFC 7239 §4).
    private var quotedAuthority: String {
        authority.utf8.contains { $0 == UInt8(ascii: ":") || $0 == UInt8(ascii: "[") } ? "\"\(authority)\"" : authority
    }
}
