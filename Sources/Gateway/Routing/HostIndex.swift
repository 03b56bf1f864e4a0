import Settings

/// Values by host: the exact host first, then the wildcard with the longest suffix. Immutable once built.
struct HostIndex<Value: Sendable>: Sendable {
    /// Substrings as keys, so that a look-up by a part of the host allocates nothing.
    private var exact: [Substring: Value] = [:]
    private var below: [Substring: Value] = [:]

    /// The value under exactly this pattern.
    subscript(pattern: HostPattern) -> Value? {
        get {
            switch pattern {
            case .exact(let host): exact[host[...]]
            case .below(let parent): below[parent[...]]
            }
        }
        set {
            switch pattern {
            case .exact(let host): exact[host[...]] = newValue
            case .below(let parent): below[parent[...]] = newValue
            }
        }
    }

    var count: Int { exact.count + below.count }

    /// - Parameter host: as a parsed Host field has it: lower case, no port, no final dot; an IPv6 address in brackets.
    func find(_ host: String) -> Value? {
        if host.utf8.first == UInt8(ascii: "[") {
            return Host.canonicalIPv6(String(host.dropFirst().dropLast())).flatMap { exact[$0[...]] }
        }
        if let value = exact[host[...]] { return value }
        if below.isEmpty { return nil }
        var rest = host[...]
        while let dot = rest.utf8.firstIndex(of: UInt8(ascii: ".")) {
            let isFirst = dot == rest.startIndex
            rest = rest[rest.index(after: dot)...]
            // No label stands before the dot: not a host that is below anything.
            if isFirst { return nil }
            if let value = below[rest] { return value }
        }
        return nil
    }
}
