package import Settings

/// Hosts that a route, a token or an agent means: one host, or every host below a name (`*.example.com`, any depth).
package enum HostPattern: Hashable, Sendable, CustomStringConvertible {
    /// A name in lower case without a final dot, or an address in its canonical form, without brackets.
    case exact(String)
    /// What stands behind `*.`.
    case below(String)

    package init(_ text: String) throws(Complaint) {
        let host = try Host.parsePattern(text)
        self = host.hasPrefix("*.") ? .below(String(host.dropFirst(2))) : .exact(host)
    }

    package var description: String {
        switch self {
        case .exact(let host): host
        case .below(let parent): "*.\(parent)"
        }
    }

    /// True when every host that `other` means is also meant here.
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
