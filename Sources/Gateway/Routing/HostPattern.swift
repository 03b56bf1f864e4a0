package import Settings

/// The hosts that a route, a token or an agent refers to: one host, or every host below a name (`*.example.com`, at any
/// depth).
package enum HostPattern: Hashable, Sendable, CustomStringConvertible {
    /// A name in lower case without a final dot, or an address in its canonical form, without brackets.
    case exact(String)
    /// The name after `*.`, in the same form.
    case below(String)

    /// Parses a pattern in any form that the configuration accepts.
    package init(_ text: String) throws(Complaint) {
        if let plain = Self.plain(text) {
            self = plain
            return
        }
        let host = try Host.parsePattern(text)
        self = host.hasPrefix("*.") ? .below(String(host.dropFirst(2))) : .exact(host)
    }

    /// Parses a name, or `*.` and a name, that is already in its final form. Thousands of these are read from the
    /// store, so this avoids the cost of the general parser. Returns `nil` for any other text, which may still be
    /// valid.
    private static func plain(_ text: String) -> HostPattern? {
        let isBelow = text.utf8.starts(with: "*.".utf8)
        let name = isBelow ? text.utf8.dropFirst(2) : text.utf8[...]
        guard text.utf8.count <= 253 else { return nil }
        var label = 0
        var hasOtherThanDigits = false
        var before = UInt8(ascii: ".")
        for byte in name {
            switch byte {
            case UInt8(ascii: "."):
                guard label > 0, before != UInt8(ascii: "-") else { return nil }
                label = -1
                hasOtherThanDigits = false
            case UInt8(ascii: "-"):
                guard label > 0 else { return nil }
                hasOtherThanDigits = true
            case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "_"): hasOtherThanDigits = true
            case UInt8(ascii: "0")...UInt8(ascii: "9"): break
            default: return nil
            }
            label += 1
            guard label <= 63 else { return nil }
            before = byte
        }
        guard label > 0, hasOtherThanDigits, before != UInt8(ascii: "-") else { return nil }
        return isBelow ? .below(String(Substring(name))) : .exact(text)
    }

    package var description: String {
        switch self {
        case .exact(let host): host
        case .below(let parent): "*.\(parent)"
        }
    }

    /// Whether this pattern covers every host that `other` covers.
    package func covers(_ other: HostPattern) -> Bool {
        switch (self, other) {
        case (.exact(let mine), .exact(let theirs)): mine == theirs
        case (.exact, .below): false
        case (.below(let parent), .exact(let host)): Self.isBelow(host, parent)
        case (.below(let parent), .below(let theirs)): theirs == parent || Self.isBelow(theirs, parent)
        }
    }

    private static func isBelow(_ host: String, _ parent: String) -> Bool {
        host.utf8.count > parent.utf8.count + 1 && host.hasSuffix(parent)
            && host.dropLast(parent.utf8.count).hasSuffix(".")
    }
}
