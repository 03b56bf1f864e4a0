/// A set of hosts, as a route, a token or an agent names it: one host, or all hosts below a name (`*.example.com`, at
/// any depth).
package enum HostPattern: Hashable, Sendable, CustomStringConvertible {
    /// One host: a name in lower case without a trailing dot, or an address in its canonical form without brackets.
    case exact(String)
    /// All hosts below the name, which is the text after `*.`.
    case below(String)

    /// Parses an exact name or address, or `*.` and a name, in either case.
    package init(_ text: String) throws(FormatError) {
        self = if let canonical = Self.canonical(text) { canonical } else { try Self.general(text) }
    }

    /// Parses a text in canonical form that is no address. The store holds thousands of them.
    ///
    /// - Returns: `nil` if the text has to go through ``general(_:)``.
    private static func canonical(_ text: String) -> HostPattern? {
        let isBelow = text.utf8.starts(with: "*.".utf8)
        let name = isBelow ? text.utf8.dropFirst(2) : text.utf8[...]
        guard let syntax = DNSName.syntax(of: name), !syntax.hasUppercaseLetter, !syntax.endsWithNumber else {
            return nil
        }
        return isBelow ? .below(String(Substring(name))) : .exact(text)
    }

    private static func general(_ text: String) throws(FormatError) -> HostPattern {
        let remedy = "Write a host such as app.example.com or *.example.com."
        let host = text.lowercased()
        if host == "*" { throw FormatError("\"*\" would take every host", remedy) }
        if host.contains("/") { throw FormatError("\(quoted(text)) is a URL or path, not a host", remedy) }
        if host.hasSuffix(".") { throw FormatError("\(quoted(text)) ends with a dot", remedy) }
        let isBelow = host.hasPrefix("*.")
        let name = isBelow ? String(host.dropFirst(2)) : host
        if name.contains("*") { throw FormatError("\(quoted(text)) has a * that is not its first label", remedy) }
        if IPAddressText.isIPv4(host) { return .exact(host) }
        if let canonical = IPAddressText.canonicalIPv6(host) { return .exact(canonical) }
        if host.contains(":") { throw FormatError("\(quoted(text)) has a port", remedy) }
        if !host.utf8.allSatisfy({ $0 < 0x80 }) {
            throw FormatError("\(quoted(text)) is not ASCII", "Write an international name in its xn-- form.")
        }
        guard DNSName.isHostName(name) else { throw FormatError("\(quoted(text)) is not a host name", remedy) }
        return isBelow ? .below(name) : .exact(name)
    }

    /// Parses a pattern.
    ///
    /// - Returns: Its canonical text: a name in lower case, perhaps after `*.`, or an address.
    package static func canonicalText(_ text: String) throws(FormatError) -> String {
        try HostPattern(text).description
    }

    package var description: String {
        switch self {
        case .exact(let host): host
        case .below(let parent): "*.\(parent)"
        }
    }

    /// Whether every host of `other` is also a host of this pattern.
    package func covers(_ other: HostPattern) -> Bool {
        switch (self, other) {
        case (.exact(let host), .exact(let otherHost)): host == otherHost
        case (.exact, .below): false
        case (.below(let parent), .exact(let host)): Self.isBelow(host, parent)
        case (.below(let parent), .below(let otherParent)):
            otherParent == parent || Self.isBelow(otherParent, parent)
        }
    }

    /// The rank among patterns that cover the same host: an exact one is the most specific, then the longest wildcard.
    package var specificity: Int {
        switch self {
        case .exact: .max
        case .below(let parent): parent.utf8.count
        }
    }

    private static func isBelow(_ host: String, _ parent: String) -> Bool {
        host.utf8.count > parent.utf8.count + 1 && host.hasSuffix(parent)
            && host.dropLast(parent.utf8.count).hasSuffix(".")
    }
}
