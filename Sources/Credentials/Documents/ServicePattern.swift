package import Formats
import Settings

/// The services that a token permits: one name, all names with a common prefix (`web-*`), or all names (`*`).
package enum ServicePattern: Hashable, Sendable, CustomStringConvertible {
    case exact(String)
    /// The text before the star. The empty prefix matches every service.
    case prefix(String)

    package init(_ text: String) throws(FormatError) {
        if text.utf8.last != UInt8(ascii: "*") {
            self = .exact(try Scalars.name(text))
        } else if text == "*" {
            self = .prefix("")
        } else {
            self = .prefix(try Scalars.name(String(text.dropLast())))
        }
    }

    package var description: String {
        switch self {
        case .exact(let name): name
        case .prefix(let start): "\(start)*"
        }
    }

    /// A service that the pattern matches.
    var example: String {
        switch self {
        case .exact(let name): name
        case .prefix(let start): (try? Scalars.name(start + "http")) ?? start
        }
    }

    /// Whether the pattern matches the service.
    package func covers(_ service: String) -> Bool {
        switch self {
        case .exact(let name): name == service
        case .prefix(let start): service.hasPrefix(start)
        }
    }
}
