import Credentials

/// The meaning of a header field to the edge, determined from its name.
///
/// The comparison ignores case and equates `_` and `-`: many origins (CGI, WSGI) cannot tell the two apart, so an alias
/// of a field that we set or that frames a message is treated as an attempt to forge it.
package enum FieldKind: UInt8, Sendable {
    /// A field that is passed on unchanged.
    case other
    case host
    case contentLength
    case transferEncoding
    case connection
    /// A hop-by-hop field, never forwarded in either direction.
    case hopByHop
    case upgrade
    case te
    case trailer
    case expect
    case accept
    case webSocketKey
    case webSocketVersion
    /// A field that the edge writes itself; the client's is dropped.
    case ours
    case date
    case credentials
}

extension FieldKind {
    /// The meaning of a field, and whether its name was written with an underscore.
    package struct Classified: Equatable, Sendable {
        package var kind: FieldKind
        package var isAlias: Bool
    }

    package static func classify(_ name: String) -> Classified {
        var name = name
        return name.withUTF8 { classify(UnsafeRawBufferPointer($0)) }
    }

    package static func classify(_ name: UnsafeRawBufferPointer) -> Classified {
        var hasUnderscore = false
        var kind = FieldKind.other
        switch name.count {
        case 2: if matches(name, "te", &hasUnderscore) { kind = .te }
        case 4:
            if matches(name, "host", &hasUnderscore) {
                kind = .host
            } else if matches(name, "date", &hasUnderscore) {
                kind = .date
            }
        case 6:
            if matches(name, "accept", &hasUnderscore) {
                kind = .accept
            } else if matches(name, "expect", &hasUnderscore) {
                kind = .expect
            } else if matches(name, "cookie", &hasUnderscore) {
                kind = .credentials
            }
        case 7:
            if matches(name, "upgrade", &hasUnderscore) {
                kind = .upgrade
            } else if matches(name, "trailer", &hasUnderscore) {
                kind = .trailer
            }
        case 9:
            if matches(name, "x-real-ip", &hasUnderscore) || matches(name, "forwarded", &hasUnderscore) {
                kind = .ours
            }
        case 10:
            if matches(name, "connection", &hasUnderscore) {
                kind = .connection
            } else if matches(name, "keep-alive", &hasUnderscore) {
                kind = .hopByHop
            } else if matches(name, "set-cookie", &hasUnderscore) {
                kind = .credentials
            }
        case 12: if matches(name, "x-request-id", &hasUnderscore) { kind = .ours }
        case 13: if matches(name, "authorization", &hasUnderscore) { kind = .credentials }
        case 14:
            if matches(name, "content-length", &hasUnderscore) {
                kind = .contentLength
            } else if matches(name, "http2-settings", &hasUnderscore) {
                kind = .hopByHop
            }
        case 15: if matches(name, "x-forwarded-for", &hasUnderscore) { kind = .ours }
        case 16:
            if matches(name, "x-forwarded-host", &hasUnderscore) || matches(name, "x-forwarded-port", &hasUnderscore) {
                kind = .ours
            } else if matches(name, "proxy-connection", &hasUnderscore) {
                kind = .hopByHop
            }
        case 17:
            if matches(name, "transfer-encoding", &hasUnderscore) {
                kind = .transferEncoding
            } else if matches(name, "x-forwarded-proto", &hasUnderscore) {
                kind = .ours
            } else if matches(name, "sec-websocket-key", &hasUnderscore) {
                kind = .webSocketKey
            }
        case 18:
            if matches(name, "x-forwarded-server", &hasUnderscore) {
                kind = .ours
            } else if matches(name, "proxy-authenticate", &hasUnderscore) {
                kind = .hopByHop
            }
        case 19: if matches(name, "proxy-authorization", &hasUnderscore) { kind = .hopByHop }
        case 21: if matches(name, "sec-websocket-version", &hasUnderscore) { kind = .webSocketVersion }
        default: break
        }
        return Classified(kind: kind, isAlias: hasUnderscore && kind != .other)
    }

    /// Returns whether the names are equal, ignoring case and equating `_` and `-`.
    ///
    /// - Parameter hasUnderscore: set when the name matched and contains one.
    private static func matches(_ name: UnsafeRawBufferPointer, _ known: StaticString, _ hasUnderscore: inout Bool)
        -> Bool
    {
        guard name.count == known.utf8CodeUnitCount else { return false }
        let wanted = known.utf8Start
        var underscore = false
        for index in 0..<name.count {
            var byte = name[index]
            if byte &- 0x41 < 26 {
                byte |= 0x20
            } else if byte == 0x5F {
                byte = 0x2D
                underscore = true
            }
            guard byte == wanted[index] else { return false }
        }
        if underscore { hasUnderscore = true }
        return true
    }
}
