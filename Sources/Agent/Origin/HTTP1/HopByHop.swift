import HopProtocol

/// The names of fields that belong to one connection and are never forwarded (RFC 9110 §7.6.1).
enum HopByHop {
    /// Whether `name` is a hop-by-hop field, compared without regard to case.
    static func contains(_ name: UnsafeRawBufferPointer) -> Bool {
        // By length first, which decides nearly every field.
        switch name.count {
        case 2: ASCII.equalIgnoringCase(name, "te")
        case 7: ASCII.equalIgnoringCase(name, "upgrade")
        case 10: ASCII.equalIgnoringCase(name, "connection") || ASCII.equalIgnoringCase(name, "keep-alive")
        case 14: ASCII.equalIgnoringCase(name, "http2-settings")
        case 16: ASCII.equalIgnoringCase(name, "proxy-connection")
        case 17: ASCII.equalIgnoringCase(name, "transfer-encoding")
        case 18: ASCII.equalIgnoringCase(name, "proxy-authenticate")
        case 19: ASCII.equalIgnoringCase(name, "proxy-authorization")
        default: false
        }
    }

    /// Whether a field must not occur in a trailer section: framing, routing, authentication (RFC 9110 §6.5.1).
    static func isForbiddenTrailer(_ name: UnsafeRawBufferPointer) -> Bool {
        if contains(name) { return true }
        return switch name.count {
        case 4: ASCII.equalIgnoringCase(name, "host")
        case 7: ASCII.equalIgnoringCase(name, "trailer")
        case 10: ASCII.equalIgnoringCase(name, "set-cookie")
        case 13: ASCII.equalIgnoringCase(name, "authorization")
        case 14: ASCII.equalIgnoringCase(name, "content-length")
        case 16: ASCII.equalIgnoringCase(name, "www-authenticate")
        default: false
        }
    }
}
