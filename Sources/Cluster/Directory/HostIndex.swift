package import Formats
package import HashTreeCollections

/// A dictionary from host patterns to values. A look-up takes the exact host first, then the wildcard with the longest
/// suffix. Copies share their storage, so that a change costs a few nodes, however many patterns there are.
package struct HostIndex<Value: Sendable>: Sendable {
    // The keys are substrings, so that a look-up by a part of the host does not allocate.
    @usableFromInline
    var exact: TreeDictionary<Substring, Value> = [:]
    @usableFromInline
    var below: TreeDictionary<Substring, Value> = [:]

    @inlinable
    package init() {}

    /// The value of exactly this pattern.
    @inlinable
    package subscript(pattern: HostPattern) -> Value? {
        get {
            switch pattern {
            case .exact(let host): exact[host[...]]
            case .below(let parent): below[parent[...]]
            }
        }
        _modify {
            switch pattern {
            case .exact(let host): yield &exact[host[...]]
            case .below(let parent): yield &below[parent[...]]
            }
        }
    }

    @inlinable
    package var count: Int { exact.count + below.count }

    /// The value of the most specific pattern that covers a host.
    ///
    /// - Parameter host: A host as a parsed Host field has it: lower case, no port, no final dot; an IPv6 address in
    ///   brackets.
    @inlinable
    package func find(_ host: String) -> Value? {
        if host.utf8.first == UInt8(ascii: "[") {
            return IPAddressText.canonicalIPv6(String(host.dropFirst().dropLast())).flatMap { exact[$0[...]] }
        }
        if let value = exact[host[...]] { return value }
        if below.isEmpty { return nil }
        var rest = host[...]
        while let dot = rest.utf8.firstIndex(of: UInt8(ascii: ".")) {
            let isFirst = dot == rest.startIndex
            rest = rest[rest.index(after: dot)...]
            // An empty first label: no host is below such a name.
            if isFirst { return nil }
            if let value = below[rest] { return value }
        }
        return nil
    }
}
